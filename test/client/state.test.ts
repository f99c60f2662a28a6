/** `RealtimeClient.state`: a state and its stream as one value, exactly, and what it says of itself. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Random, Schema, Stream } from "effect"
import { TestClock } from "effect/testing"
import { Channel, type RealtimeEvent } from "effect-realtime"
import type { RealtimeClient } from "effect-realtime/client"
import { seed } from "../server/support/random.ts"
import * as Client from "./support/client.ts"
import * as FakeSocket from "./support/FakeSocket.ts"
import * as Outbox from "./support/outbox.ts"

const Orders = Channel.make(Outbox.channel, Schema.Finite)

type Ids = ReadonlyArray<number>

/** Throws for an id that it has: then the client delivered it twice. */
const add = (ids: Ids, id: number): Ids => {
  if (ids.includes(id)) throw new Error(`${id} twice`)
  return [...ids, id].toSorted((a, b) => a - b)
}

const snapshotOf = (outbox: Outbox.Outbox, cursor: string): RealtimeEvent.Snapshot<Ids> => ({
  _tag: "Snapshot",
  value: outbox.behind(cursor),
  cursor
})

/** Runs the stream and keeps what it gave. */
const watch = <E>(stream: Stream.Stream<RealtimeClient.Collected<Ids>, E>) =>
  Effect.gen(function* () {
    const seen: Array<RealtimeClient.Collected<Ids>> = []
    const fiber = yield* stream.pipe(
      Stream.runForEach((value) => Effect.sync(() => seen.push(value))),
      Effect.exit,
      Effect.forkChild({ startImmediately: true })
    )
    return { seen, now: () => seen.at(-1)!, fiber, stop: Fiber.interrupt(fiber) }
  })

const make = Effect.gen(function* () {
  const server = FakeSocket.make({ auto: true })
  const outbox = Outbox.make(server)
  const client = yield* Client.make(server)
  /** The server and the client do what they have to do now. */
  const settle = Effect.gen(function* () {
    for (let turn = 0; turn < 8; turn++) {
      for (let page = 0; page < 4; page++) outbox.tick()
      while (outbox.requests.length > 0) outbox.hear()
      while (outbox.frames.length > 0) outbox.say()
      yield* TestClock.adjust(1)
    }
  })
  const commit = (count = 1) => {
    for (let n = 0; n < count; n++) {
      outbox.begin()
      outbox.write(outbox.running - 1, Outbox.channel)
      outbox.over(outbox.running - 1, false)
    }
  }
  /** Commits, and hands out. */
  const told = (count = 1) => {
    commit(count)
    for (let page = 0; page <= count; page++) outbox.tick()
  }
  const subscribes = () => server.sent.filter(({ type }) => type === "subscribe").length
  return { server, outbox, client, settle, commit, told, subscribes }
})

describe("RealtimeClient.state", () => {
  it.effect("joins exactly a channel that is open and busy, without a gap or a request", () =>
    Effect.gen(function* () {
      const { client, outbox, settle, subscribes, told } = yield* make
      const gaps: Array<unknown> = []
      yield* client.events(Orders).pipe(
        Stream.runForEach((event) => Effect.sync(() => event._tag === "Gap" && gaps.push(event))),
        Effect.forkChild({ startImmediately: true })
      )
      yield* settle
      told(3)
      yield* settle
      const load = Effect.gen(function* () {
        const read = snapshotOf(outbox, outbox.snapshot())
        // The answer takes its time, and the channel goes on.
        yield* Effect.sleep(50)
        return read
      })
      const { now, seen } = yield* watch(client.state(Orders, { initial: [], load, reduce: add }))
      for (let n = 0; n < 100; n++) {
        told()
        yield* settle
      }
      assert.deepInclude(now(), { status: "live", error: undefined, value: outbox.committed })
      assert.deepStrictEqual([gaps, subscribes()], [[], 1])
      assert.deepStrictEqual([...new Set(seen.map(({ status }) => status))], ["loading", "live"])
    })
  )

  it.effect("goes on from the cursor of the snapshot that it begins with", () =>
    Effect.gen(function* () {
      const { client, commit, outbox, settle, told } = yield* make
      told(5)
      const initial = snapshotOf(outbox, outbox.snapshot())
      commit(3)
      const { now, seen } = yield* watch(client.state(Orders, { initial, reduce: add }))
      assert.deepInclude(now(), { status: "loading", value: [1, 2, 3, 4, 5] })
      yield* settle
      assert.deepInclude(now(), { status: "live", value: [1, 2, 3, 4, 5, 6, 7, 8] })
      assert.isUndefined(seen.find(({ error }) => error !== undefined))
    })
  )

  it.effect.each(["a listener", "another state"])(
    "also where %s has the channel open, and stands later",
    (other) =>
      Effect.gen(function* () {
        const { client, outbox, settle, told } = yield* make
        const initial = snapshotOf(outbox, outbox.snapshot())
        const first = yield* other === "a listener"
          ? watch(Stream.map(client.events(Orders), () => ({}) as never))
          : watch(client.state(Orders, { initial, reduce: add }))
        yield* settle
        told(7)
        yield* settle
        const { now } = yield* watch(client.state(Orders, { initial, reduce: add }))
        yield* settle
        told(2)
        yield* settle
        assert.deepInclude(now(), { status: "live", value: outbox.committed })
        if (other !== "a listener") assert.deepInclude(first.now(), { value: outbox.committed })
      })
  )

  it.effect("is loading until the first read is done, also where the state is empty", () =>
    Effect.gen(function* () {
      const { client, outbox, settle, told } = yield* make
      const load = Effect.delay(
        Effect.sync(() => snapshotOf(outbox, outbox.snapshot())),
        "1 second"
      )
      const { now, seen } = yield* watch(client.state(Orders, { initial: [], load, reduce: add }))
      yield* settle
      assert.deepInclude(now(), { status: "loading", value: [] })
      yield* TestClock.adjust("1 second")
      yield* settle
      assert.deepInclude(now(), { status: "live", value: [] })
      assert.deepStrictEqual([...new Set(seen.map(({ status }) => status))], ["loading", "live"])
      told()
      yield* settle
      assert.deepInclude(now(), { status: "live", value: [1] })
    })
  )

  it.effect("brings a read that is older than the subscription up to date", () =>
    Effect.gen(function* () {
      const { client, outbox, settle, told } = yield* make
      // The answer of a cache.
      const cached = snapshotOf(outbox, outbox.snapshot())
      told(4)
      const { now } = yield* watch(
        client.state(Orders, { initial: [], load: Effect.succeed(cached), reduce: add })
      )
      yield* settle
      assert.deepInclude(now(), { status: "live", value: [1, 2, 3, 4] })
    })
  )

  it.effect("reads again when the server cannot go back to the state that it was given", () =>
    Effect.gen(function* () {
      const { client, outbox, settle, told } = yield* make
      told(1)
      const old = snapshotOf(outbox, outbox.forget(outbox.snapshot()))
      told(4)
      let reads = 0
      const load = Effect.sync(() => {
        reads++
        return snapshotOf(outbox, outbox.snapshot())
      })
      const { now } = yield* watch(client.state(Orders, { initial: old, load, reduce: add }))
      yield* settle
      assert.deepInclude(now(), { status: "live", value: outbox.committed })
      assert.strictEqual(reads, 1)
    })
  )

  it.effect(
    "loses nothing when a read joins while a later one, which is older, is on its way",
    () =>
      Effect.gen(function* () {
        const { client, commit, outbox, settle } = yield* make
        const old = snapshotOf(outbox, outbox.snapshot())
        const answers: Array<Effect.Effect<RealtimeEvent.Snapshot<Ids>>> = []
        const load = Effect.suspend(() => answers.shift()!)
        const { now } = yield* watch(client.state(Orders, { initial: old, load, reduce: add }))
        yield* settle
        commit()
        const fresh = snapshotOf(outbox, outbox.snapshot())
        outbox.drop()
        answers.push(Effect.succeed(fresh), Effect.delay(Effect.succeed(old), "3 seconds"))
        yield* now().reload
        yield* TestClock.adjust(1)
        yield* now().reload
        yield* TestClock.adjust("2 seconds")
        yield* settle
        assert.deepInclude(now(), { status: "live", value: [1] })
        yield* TestClock.adjust("2 seconds")
        yield* settle
        assert.deepInclude(now(), { status: "live", value: [1] })
      })
  )

  it.effect("says that it is stale, and why, where it cannot read again", () =>
    Effect.gen(function* () {
      const { client, outbox, settle, told } = yield* make
      told(1)
      const old = snapshotOf(outbox, outbox.forget(outbox.snapshot()))
      told(4)
      const { now } = yield* watch(client.state(Orders, { initial: old, reduce: add }))
      yield* settle
      assert.deepInclude(now(), { status: "stale", value: [1] })
    })
  )

  it.effect("tries a read that failed again, ever more slowly, and goes on", () =>
    Effect.gen(function* () {
      const { client, outbox, settle, told } = yield* make
      const reads: Array<number> = []
      const load = Effect.suspend(() => {
        reads.push(reads.length)
        return reads.length <= 4
          ? Effect.fail(`no ${reads.length}`)
          : Effect.succeed(snapshotOf(outbox, outbox.snapshot()))
      })
      const { now } = yield* watch(client.state(Orders, { initial: [], load, reduce: add }))
      yield* settle
      assert.deepInclude(now(), { status: "error", value: [], error: "no 1" })
      told(2)
      yield* settle
      yield* TestClock.adjust("10 seconds")
      yield* settle
      assert.deepInclude(now(), { status: "live", value: [1, 2], error: undefined })
      assert.strictEqual(reads.length, 5)
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(reads.length, 5)
    }).pipe(Random.withSeed("slower"))
  )

  it.effect("is stale with a reason, and asks little, where every answer is a reset", () =>
    Effect.gen(function* () {
      const { client, outbox, settle, subscribes, told } = yield* make
      told(1)
      const cursor = outbox.forget(outbox.snapshot())
      told(4)
      let reads = 0
      const load = Effect.sync(() => {
        reads++
        return { _tag: "Snapshot" as const, value: outbox.behind(cursor), cursor }
      })
      const { now } = yield* watch(client.state(Orders, { initial: [], load, reduce: add }))
      for (let second = 0; second < 60; second++) {
        yield* settle
        yield* TestClock.adjust(992)
      }
      assert.isAtMost(reads, 10)
      assert.isAtMost(subscribes(), 10)
      assert.deepInclude(now(), { status: "stale" })
      assert.deepInclude(now().error, { _tag: "Gap", reason: "retention" })
      // For an hour as little, and then it is well.
      for (let minute = 0; minute < 10; minute++) {
        yield* TestClock.adjust("1 minute")
        yield* settle
      }
      assert.isAtMost(reads, 100)
      outbox.remember(cursor)
      for (let second = 0; second < 60; second++) {
        yield* settle
        yield* TestClock.adjust("1 second")
      }
      assert.deepInclude(now(), { status: "live", value: outbox.committed, error: undefined })
    })
  )

  it.effect("likewise where every read fails", () =>
    Effect.gen(function* () {
      const { client, settle, subscribes } = yield* make
      let reads = 0
      const load = Effect.suspend(() => Effect.fail(`no ${++reads}`))
      const { now } = yield* watch(client.state(Orders, { initial: [], load, reduce: add }))
      for (let second = 0; second < 60; second++) {
        yield* settle
        yield* TestClock.adjust(992)
      }
      assert.isAtMost(reads, 10)
      assert.strictEqual(subscribes(), 1)
      assert.deepInclude(now(), { status: "error", error: `no ${reads}` })
    })
  )

  it.effect("is stale while the link is away, and live again when it is back", () =>
    Effect.gen(function* () {
      const { client, outbox, settle, told } = yield* make
      const initial = snapshotOf(outbox, outbox.snapshot())
      const { now } = yield* watch(client.state(Orders, { initial, reduce: add }))
      yield* settle
      assert.strictEqual(now().status, "live")
      outbox.drop()
      yield* settle
      assert.deepInclude(now(), { status: "stale", error: undefined, value: [] })
      told(3)
      yield* TestClock.adjust("2 seconds")
      yield* settle
      assert.deepInclude(now(), { status: "live", value: [1, 2, 3] })
    })
  )

  it.effect("is stale while the server refuses it for now, with the error, and goes on", () =>
    Effect.gen(function* () {
      const { client, outbox, settle } = yield* make
      outbox.refuse()
      const { now } = yield* watch(client.state(Orders, { initial: [], reduce: add }))
      while (outbox.requests.length === 0) yield* TestClock.adjust(1)
      outbox.hear()
      outbox.say()
      yield* TestClock.adjust(0)
      assert.strictEqual(now().status, "stale")
      assert.deepInclude(now().error, { _tag: "Refused", code: "source/down", retry: "later" })
      yield* settle
      assert.deepInclude(now(), { status: "live", error: undefined })
    })
  )

  it.effect("ends with the error when the server refuses it for good", () =>
    Effect.gen(function* () {
      const { client, server, settle } = yield* make
      const { fiber, now } = yield* watch(client.state(Orders, { initial: [], reduce: add }))
      yield* settle
      const refusal = { code: "channel/forbidden", message: "no", retry: "never" } as const
      server.last.say({ type: "ended", channel: Outbox.channel, ...refusal })
      yield* settle
      assert.deepInclude(now(), { status: "error" })
      const exit = yield* Fiber.join(fiber)
      assert.include(String(exit), "Refused")
    })
  )

  it.effect("is stale when the reducer threw, until it is read again", () =>
    Effect.gen(function* () {
      const { client, outbox, settle, told } = yield* make
      const load = Effect.sync(() => snapshotOf(outbox, outbox.snapshot()))
      const reduce = (ids: Ids, id: number) => {
        if (id === 2) throw new Error("two")
        return add(ids, id)
      }
      const { now } = yield* watch(client.state(Orders, { initial: [], load, reduce }))
      yield* settle
      told(3)
      yield* settle
      assert.deepInclude(now(), { status: "stale", value: [1, 3] })
      assert.deepStrictEqual(now().error, new Error("two"))
      yield* now().reload
      yield* settle
      assert.deepInclude(now(), { status: "live", value: [1, 2, 3], error: undefined })
    })
  )

  it.effect("interrupts a read when another one replaces it, and when the consumer leaves", () =>
    Effect.gen(function* () {
      const { client, settle } = yield* make
      let interrupted = 0
      const load = Effect.never.pipe(Effect.onInterrupt(() => Effect.sync(() => interrupted++)))
      const { now, stop } = yield* watch(client.state(Orders, { initial: [], load, reduce: add }))
      yield* settle
      yield* now().reload
      yield* settle
      assert.strictEqual(interrupted, 1)
      yield* stop
      yield* settle
      assert.strictEqual(interrupted, 2)
    })
  )

  it.effect(
    `shows at last what is committed, whatever happened and however old each read was (seed ${seed})`,
    () =>
      Effect.gen(function* () {
        let reads = 0
        for (let run = 0; run < 40; run++) {
          const { client, outbox, settle, told } = yield* make
          const snapshots = [outbox.snapshot()]
          const pick = (back: number) => snapshots.at(-1 - back) ?? snapshots[0]!
          const load = Effect.gen(function* () {
            reads++
            const back = yield* Random.nextIntBetween(0, 4)
            const cursor = back === 4 ? outbox.snapshot() : pick(back)
            const state = snapshotOf(outbox, cursor)
            yield* Effect.sleep(yield* Random.nextIntBetween(0, 10))
            return (yield* Random.nextIntBetween(0, 6)) === 0 ? yield* Effect.fail("no") : state
          })
          const watches: Array<Effect.Success<ReturnType<typeof watch>>> = []
          for (let n = 0; n < 60; n++) {
            const dice = yield* Random.nextIntBetween(0, 12)
            if (dice === 0 && watches.length < 4) {
              const cursor = pick(yield* Random.nextIntBetween(0, 9))
              const initial = n % 2 === 0 ? [] : snapshotOf(outbox, cursor)
              watches.push(yield* watch(client.state(Orders, { initial, load, reduce: add })))
            } else if (dice === 1) outbox.begin()
            else if (dice < 4) outbox.write(n, n % 3 === 0 ? "other" : Outbox.channel)
            else if (dice === 4) outbox.over(n, n % 5 === 0)
            else if (dice === 5) snapshots.push(outbox.snapshot())
            else if (dice === 6) outbox.tick()
            else if (dice === 7) outbox.hear()
            else if (dice === 8) outbox.say()
            else if (dice === 9) told()
            else if (dice === 10 && n % 4 === 0 && watches.length > 0) outbox.drop()
            else if (dice === 11 && watches.length > 0)
              yield* watches[n % watches.length]!.now().reload
            yield* TestClock.adjust(1)
          }
          for (let turn = 0; turn < 30; turn++) {
            while (outbox.running > 0) outbox.over(0, false)
            told(0)
            yield* TestClock.adjust("1 second")
            yield* settle
          }
          for (const { now, stop } of watches) {
            assert.deepInclude(now(), { status: "live", value: outbox.committed, error: undefined })
            yield* stop
          }
        }
        assert.isAbove(reads, 60)
      }).pipe(Random.withSeed(seed))
  )
})
