/**
 * The cost of one client does not grow with the crowd: a replay is read, decoded and encoded once,
 * in turns of the event loop, and what each session may do adds up to limits of the node.
 */
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Effect, Layer, Schema, SchemaGetter } from "effect"
import { TestClock } from "effect/testing"
import * as Channel from "../../src/Channel.ts"
import {
  ReplayAdmission,
  type AdmittedReplay
} from "../../src/server/internal/outbox/replayAdmission.ts"
import * as Door from "../../src/server/internal/door/door.ts"
import { Turns, turns } from "../../src/server/internal/eventLoopTurns.ts"
import * as MemorySource from "../../src/server/MemorySource.ts"
import * as Realtime from "../../src/server/Realtime.ts"
import { type Options, OutboxReader } from "../../src/server/OutboxReader.ts"
import { allowAll, type AnonymousOptions, type Request } from "../../src/server/ServerOptions.ts"
import {
  layerDoor as layerLiveDoor,
  refusals,
  settle,
  TestDoor,
  visit,
  type Visitor
} from "../support/sessions.ts"
import { layerReader, publish, session } from "./support/durable.ts"
import { until } from "../support/until.ts"

/** Texts that report when they are decoded. */
const counted = { decoded: () => undefined as void }

const Counted = Schema.String.pipe(
  Schema.decodeTo(Schema.String, {
    decode: SchemaGetter.transform((text: string) => {
      counted.decoded()
      return text
    }),
    encode: SchemaGetter.transform((text: string) => text)
  })
)

const Log = Channel.make("room", Counted, { delivery: "durable" })
const Rooms = Channel.family("room_", Schema.String, Schema.String, { delivery: "durable" })

const layerDoor = (options: Partial<AnonymousOptions> = {}, reader?: Options) =>
  Layer.effect(
    TestDoor,
    Door.make({ channels: [Log, Rooms], authorize: allowAll, ...options })
  ).pipe(
    Layer.provide(Realtime.layer()),
    Layer.provide(MemorySource.layer),
    Layer.provideMerge(layerReader({ wake: "poll" }, reader))
  )

const enter = Effect.tap(visit({ hello: false }), (visitor) =>
  Effect.sync(() => visitor.send({ type: "hello", version: 1 }))
)

const publishMany = (count: number, text: string) =>
  PgClient.PgClient.use((sql) =>
    sql.unsafe(
      `insert into realtime.messages (channel, payload) select 'room', to_json('${text}'::text || n)::text from generate_series(1, ${count}) n`
    )
  ).pipe(Effect.orDie)

const texts = (visitor: Visitor) =>
  visitor.of("events").flatMap(({ events }) => events.map(({ data }) => data))

/** The most events decoded, and written, in one turn of the event loop. */
const countSteps = Effect.acquireRelease(
  Effect.sync(() => {
    const most = { decoded: 0, written: 0 }
    const all = { decoded: 0 }
    let now = { decoded: 0, written: 0 }
    let going = true
    const round = () => {
      most.decoded = Math.max(most.decoded, now.decoded)
      most.written = Math.max(most.written, now.written)
      now = { decoded: 0, written: 0 }
      if (going) setImmediate(round)
    }
    setImmediate(round)
    counted.decoded = () => {
      now.decoded++
      all.decoded++
    }
    return {
      most,
      all,
      watch: (visitor: Visitor) => {
        const write = visitor.write.bind(visitor)
        visitor.write = (message) => {
          now.written += message.text.split('"at":"').length - 1
          return write(message)
        }
      },
      stop: () => {
        going = false
        counted.decoded = () => undefined
      }
    }
  }),
  ({ stop }) => Effect.sync(stop)
)

/** Lets `free` steps of replays run, and holds the others until it is opened. */
const gated = (free: number) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const gate = Deferred.makeUnsafe<void>()
      const take = turns.take.bind(turns)
      let left = free
      turns.take = (size) =>
        left-- > 0 ? take(size) : Effect.andThen(Deferred.await(gate), take(size))
      return Deferred.succeed(gate, undefined)
    }),
    () => Effect.sync(() => Reflect.deleteProperty(turns, "take"))
  )

describe("A crowd that resumes", () => {
  const resume = Effect.fnUntraced(function* (
    clients: number,
    cursors: ReadonlyArray<string>,
    expected: (cursor: number) => ReadonlyArray<string>
  ) {
    const steps = yield* countSteps
    const visitors = yield* Effect.forEach(Array.from({ length: clients }), () => enter)
    visitors.forEach((visitor, n) => {
      steps.watch(visitor)
      const cursor = cursors[n % cursors.length]
      visitor.send({ type: "subscribe", id: 1, channel: "room", cursor })
    })
    yield* until(() =>
      visitors.every((one, n) => texts(one).length >= expected(n % cursors.length).length)
    )
    const states = new Set(visitors.map((one) => one.last("subscribed")?.state))
    const heard = visitors.map((one) => ({ texts: texts(one), gaps: one.of("gap").length }))
    return { ...steps, states, heard }
  })

  const numbered = (count: number, text = "n") =>
    Array.from({ length: count }, (_, n) => `${text}${n + 1}`)

  it.live("a replay to 40 clients is decoded once, in turns of at most 256 events", () =>
    Effect.gen(function* () {
      const from = yield* (yield* OutboxReader).position
      yield* publishMany(2000, "n")
      yield* (yield* OutboxReader).position
      const all = numbered(2000)
      const { all: handled, heard, most, states } = yield* resume(40, [from], () => all)
      expect(states).toEqual(new Set(["recovered"]))
      expect(heard).toEqual(Array.from({ length: 40 }, () => ({ texts: all, gaps: 0 })))
      expect(handled.decoded).toBe(2000)
      expect(most.decoded).toBeLessThanOrEqual(256)
      expect(most.written).toBeLessThanOrEqual(256)
    }).pipe(Effect.scoped, Effect.provide(layerDoor()))
  )

  it.live("replays from five cursors decode and write at most 256 events in a turn", () =>
    Effect.gen(function* () {
      const reader = yield* OutboxReader
      const cursors: Array<string> = []
      for (let n = 0; n < 5; n++) {
        cursors.push(yield* reader.position)
        yield* publishMany(300, `${n}_`)
      }
      yield* reader.position
      const all = cursors.flatMap((_, n) => numbered(300, `${n}_`))
      const { heard, most } = yield* resume(15, cursors, (n) => all.slice(300 * n))
      expect(heard).toEqual(
        Array.from({ length: 15 }, (_, n) => ({ texts: all.slice(300 * (n % 5)), gaps: 0 }))
      )
      expect(most.decoded).toBeLessThanOrEqual(256)
      expect(most.written).toBeLessThanOrEqual(256)
    }).pipe(Effect.scoped, Effect.provide(layerDoor()))
  )

  it.live("a replay of events over 64 KiB takes one turn for each event", () =>
    Effect.gen(function* () {
      const from = yield* (yield* OutboxReader).position
      const large = "x".repeat(100_000)
      yield* publishMany(5, large)
      yield* (yield* OutboxReader).position
      const all = numbered(5, large)
      const { all: handled, heard, most } = yield* resume(4, [from], () => all)
      expect(heard).toEqual(Array.from({ length: 4 }, () => ({ texts: all, gaps: 0 })))
      expect(handled.decoded).toBe(5)
      expect(most).toEqual({ decoded: 1, written: 1 })
    }).pipe(
      Effect.scoped,
      // Otherwise each 64 KiB of a replay counts as a subscribe.
      Effect.provide(layerDoor({ limits: { subscribeRate: { perSecond: 1e6, burst: 1e6 } } }))
    )
  )

  it.live(
    "clients share a replay although more is published meanwhile, and receive each event once",
    () =>
      Effect.gen(function* () {
        const reader = yield* OutboxReader
        const from = yield* reader.position
        yield* publishMany(1500, "n")
        yield* reader.position
        const steps = yield* countSteps
        const visitors: Array<Visitor> = []
        const open = yield* gated(6)
        for (let n = 0; n < 12; n++) {
          const visitor = yield* enter
          visitors.push(visitor)
          visitor.send({ type: "subscribe", id: 1, channel: "room", cursor: from })
          yield* publish("room", `late${n}`)
          yield* reader.position
        }
        yield* open
        const all = [...numbered(1500), ...Array.from({ length: 12 }, (_, n) => `late${n}`)]
        yield* until(() => visitors.every((one) => texts(one).length >= all.length))
        for (const visitor of visitors) expect(texts(visitor)).toEqual(all)
        // Events published meanwhile are no replay.
        expect(steps.most.decoded).toBeLessThanOrEqual(256 + 12)
        expect(steps.all.decoded).toBeLessThan(2 * all.length)
      }).pipe(Effect.scoped, Effect.provide(layerDoor()))
  )

  it.live("a replay waits in a queue, and is rejected as server/overloaded beyond it", () =>
    Effect.gen(function* () {
      const reader = yield* OutboxReader
      const cursors: Array<string> = []
      for (let n = 0; n < 4; n++) {
        cursors.push(yield* reader.position)
        yield* publish("room", `m${n}`)
      }
      yield* reader.position
      const db = yield* session
      yield* db.query("begin")
      yield* db.query("lock realtime.horizon in access exclusive mode")
      const before = yield* refusals("maxReplayQueue")
      const visitors = yield* Effect.forEach(cursors, () => enter)
      visitors.forEach((one, n) =>
        one.send({ type: "subscribe", id: 1, channel: "room", cursor: cursors[n] })
      )
      // One replay is read and two wait.
      yield* until(() => visitors.some((one) => one.errors.length > 0))
      const refused = visitors.flatMap((one) => one.of("error"))
      expect(refused).toMatchObject([{ code: "server/overloaded", retry: "later" }])
      expect(refused[0]!.retryAfter).toBeGreaterThanOrEqual(1000)
      expect(yield* refusals("maxReplayQueue")).toBe(before + 1)
      // Replays that wait in vain are rejected alike.
      yield* until(() => visitors.every((one) => one.errors.length > 0))
      expect(visitors.flatMap(({ errors }) => errors)).toEqual(
        Array.from({ length: 4 }, () => "server/overloaded")
      )
      yield* db.query("rollback")
      visitors[0]!.send({ type: "subscribe", id: 2, channel: "room", cursor: cursors[0] })
      yield* until(() => texts(visitors[0]!).length === 4)
    }).pipe(
      Effect.scoped,
      Effect.provide(
        layerDoor({ limits: { sourceTimeout: "700 millis" } }, { maxReplays: 1, maxReplayQueue: 2 })
      )
    )
  )
})

describe("The replays of a node", () => {
  it.effect("replays stay within their bytes of memory, and start in their order", () =>
    Effect.gen(function* () {
      const admission = new ReplayAdmission({ atOnce: 3, queue: 10, bytes: 100 })
      const admitted: Array<AdmittedReplay> = []
      const order: Array<number> = []
      const come = (n: number, bytes: number) =>
        Effect.forkChild(
          admission.enter(bytes, (one) => {
            admitted[n] = one
            order.push(n)
          }),
          { startImmediately: true }
        )
      yield* come(0, 60)
      yield* come(1, 60)
      // This one would fit, but others wait before it.
      yield* come(2, 10)
      // More bytes than the limit: this one starts alone.
      yield* come(3, 1000)
      expect(order).toEqual([0])
      admitted[0]!.read(30)
      expect(order).toEqual([0, 1, 2])
      admitted[1]!.leave()
      admitted[2]!.leave()
      admitted[2]!.leave()
      expect(order).toEqual([0, 1, 2])
      admitted[0]!.leave()
      expect(order).toEqual([0, 1, 2, 3])
    })
  )
})

describe("The turns of the event loop", () => {
  it.effect("a turn takes steps that fit, in order, and a larger step takes a turn alone", () =>
    Effect.gen(function* () {
      const few = new Turns({ events: 10, bytes: 100 })
      const steps: Array<Array<number>> = [[]]
      const sizes = [
        { events: 6, bytes: 10 },
        { events: 5, bytes: 10 },
        { events: 1, bytes: 90 },
        { events: 1, bytes: 500 },
        { events: 1, bytes: 1 }
      ]
      const round = () => {
        if (steps.push([]) < 10) setImmediate(round)
      }
      yield* Effect.forEach(
        sizes,
        (size, n) => Effect.tap(few.take(size), () => Effect.sync(() => steps.at(-1)!.push(n))),
        { concurrency: "unbounded", discard: true }
      ).pipe(Effect.andThen(Effect.sync(() => undefined)), (all) => {
        setImmediate(round)
        return all
      })
      expect(steps.filter((step) => step.length > 0)).toEqual([[0], [1, 2], [3], [4]])
    })
  )
})

describe("The rate of opened channels", () => {
  const Live = Channel.family("live_", Schema.String, Schema.String)
  const limits = { channelOpenRate: { perSecond: 1, burst: 2 } }

  it.effect("all sessions share the rate of opened channels, open channels excepted", () =>
    Effect.gen(function* () {
      const [one, other] = [yield* visit(), yield* visit()]
      one.send({ type: "subscribe", id: 1, channel: "live_a" })
      other.send({ type: "subscribe", id: 1, channel: "live_b" })
      yield* settle
      const before = yield* refusals("channelOpenRate")
      one.send({ type: "subscribe", id: 2, channel: "live_c" })
      other.send({ type: "subscribe", id: 2, channel: "live_a" })
      yield* settle
      expect(one.answer(2)).toMatchObject({ code: "server/overloaded", retry: "later" })
      const { retryAfter } = one.last("error")!
      expect(retryAfter).toBeGreaterThanOrEqual(1000)
      expect(retryAfter).toBeLessThanOrEqual(2000)
      expect(other.answer(2)?.type).toBe("subscribed")
      expect(yield* refusals("channelOpenRate")).toBe(before + 1)
      // A channel that lingers is still open.
      one.send({ type: "unsubscribe", id: 3, channel: "live_a" })
      other.send({ type: "unsubscribe", id: 3, channel: "live_a" })
      yield* settle
      one.send({ type: "subscribe", id: 4, channel: "live_a" })
      yield* settle
      expect(one.answer(4)?.type).toBe("subscribed")
      yield* TestClock.adjust(retryAfter!)
      one.send({ type: "subscribe", id: 5, channel: "live_c" })
      yield* settle
      expect(one.answer(5)?.type).toBe("subscribed")
    }).pipe(
      Effect.scoped,
      Effect.provide(layerLiveDoor({ channels: [Live], authorize: allowAll, limits }))
    )
  )

  it.live("durable channels count in the rate of opened channels", () =>
    Effect.gen(function* () {
      const visitor = yield* enter
      for (const id of [1, 2, 3]) {
        visitor.send({ type: "subscribe", id, channel: `room_${id}` })
      }
      yield* until(() => [1, 2, 3].every((id) => visitor.answer(id) !== undefined))
      expect(visitor.answer(2)?.type).toBe("subscribed")
      expect(visitor.answer(3)).toMatchObject({ code: "server/overloaded" })
    }).pipe(
      Effect.scoped,
      Effect.provide(layerDoor({ limits: { channelOpenRate: { perSecond: 0.01, burst: 2 } } }))
    )
  )
})

describe("The rate of calls to authorize", () => {
  const Live = Channel.family("live_", Schema.String, Schema.String, { publish: true })
  const limits = { authorizeRate: { perSecond: 1, burst: 3 } }

  it.effect("subscribes and publishes of all sessions share the rate of authorize", () =>
    Effect.gen(function* () {
      const [one, other] = [yield* visit(), yield* visit()]
      one.send({ type: "subscribe", id: 1, channel: "live_a" })
      other.send({ type: "subscribe", id: 1, channel: "live_a" })
      one.send({ type: "publish", id: 2, channel: "live_a", key: "k2", data: "x" })
      yield* settle
      other.send({ type: "subscribe", id: 2, channel: "live_b" })
      one.send({ type: "publish", id: 3, channel: "live_a", key: "k3", data: "x" })
      yield* settle
      for (const answer of [other.answer(2), one.answer(3)]) {
        expect(answer).toMatchObject({ code: "server/overloaded", retry: "later" })
      }
      yield* TestClock.adjust("2 seconds")
      other.send({ type: "subscribe", id: 3, channel: "live_b" })
      yield* settle
      expect(other.answer(3)?.type).toBe("subscribed")
    }).pipe(
      Effect.scoped,
      Effect.provide(
        layerLiveDoor({ channels: [Live], authorize: () => Effect.succeed(true), limits })
      )
    )
  )

  it.effect("allowAll counts no calls to authorize", () =>
    Effect.gen(function* () {
      const visitor = yield* visit()
      for (let id = 1; id <= 8; id++) {
        visitor.send({ type: "subscribe", id, channel: `live_${id}` })
      }
      yield* settle
      expect(visitor.errors).toEqual([])
    }).pipe(
      Effect.scoped,
      Effect.provide(layerLiveDoor({ channels: [Live], authorize: allowAll, limits }))
    )
  )

  it.effect("reauthorize waits for the rate of authorize, and ends no subscription meanwhile", () =>
    Effect.gen(function* () {
      const asked: Array<string> = []
      const door = layerLiveDoor({
        channels: [Live],
        authenticate: () => Effect.succeed({ identity: "anna" }),
        authorize: ({ channel }: Request<string>) => Effect.sync(() => asked.push(channel) > 0),
        limits
      })
      yield* Effect.gen(function* () {
        const visitor = yield* visit({ token: "t" })
        for (const id of [1, 2, 3]) {
          visitor.send({ type: "subscribe", id, channel: `live_${id}` })
        }
        yield* settle
        const look = yield* Effect.forkChild((yield* TestDoor).reauthorize("anna"), {
          startImmediately: true
        })
        yield* settle
        expect([asked.length, look.pollUnsafe()]).toEqual([3, undefined])
        yield* TestClock.adjust("1 second")
        expect(asked).toHaveLength(4)
        yield* TestClock.adjust("2 seconds")
        expect(asked).toHaveLength(6)
        expect(look.pollUnsafe()).toBeDefined()
        expect(visitor.of("ended")).toEqual([])
      }).pipe(Effect.scoped, Effect.provide(door))
    })
  )
})
