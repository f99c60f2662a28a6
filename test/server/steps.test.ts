/**
 * Work of many clients at once is done in many turns of the event loop: opened channels, live
 * resumes, pages of consumers, released memory. A client that asks again gets new results.
 */
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Layer, Schema, SchemaGetter, Stream } from "effect"
import * as Channel from "../../src/Channel.ts"
import { Lease } from "../../src/server/internal/outbox/sharedReads.ts"
import { NotificationSource } from "../../src/server/NotificationSource.ts"
import { OutboxReader } from "../../src/server/OutboxReader.ts"
import { allowAll } from "../../src/server/ServerOptions.ts"
import { layerDoor, visit } from "../support/sessions.ts"
import { layerInstalled, layerReader, layerReaderOnly, publish } from "./support/durable.ts"
import { layerSpied } from "./support/pool.ts"
import { until } from "../support/until.ts"

/** Counts the most in one turn of the event loop, and all. */
const steps = Effect.acquireRelease(
  Effect.sync(() => {
    const seen = { most: 0, all: 0, going: true, note: () => undefined as void }
    let now = 0
    seen.note = () => {
      now++
      seen.all++
      seen.most = Math.max(seen.most, now)
    }
    const round = () => {
      now = 0
      if (seen.going) setImmediate(round)
    }
    setImmediate(round)
    return seen
  }),
  (seen) =>
    Effect.sync(() => {
      seen.going = false
    })
)

/** Waits until the present turn is over. */
const rounds = Effect.repeat(
  Effect.callback<void>((resume) => {
    setImmediate(() => resume(Effect.void))
  }),
  { times: 2 }
)

const enter = Effect.tap(visit({ hello: false }), (visitor) =>
  Effect.sync(() => visitor.send({ type: "hello", version: 1 }))
)

const Rooms = Channel.family("live_", Schema.String, Schema.String)

describe("Many channels opened at once", () => {
  it.live("at most four subscribes are authorized, and confirmed, in one turn of the loop", () =>
    Effect.gen(function* () {
      const asked = yield* steps
      const confirmed = yield* steps
      const door = layerDoor({
        channels: [Rooms],
        authenticate: () => Effect.succeed({ identity: "anna" }),
        authorize: () =>
          Effect.sync(() => {
            asked.note()
            return true
          }),
        limits: { maxSessionsPerIdentity: 100 }
      })
      yield* Effect.gen(function* () {
        const visitors = yield* Effect.forEach(Array.from({ length: 60 }), () => enter)
        yield* until(() => visitors.every((one) => one.of("welcome").length === 1))
        for (const one of visitors) {
          const write = one.write.bind(one)
          one.write = (message) => {
            if (message.text.includes(`"type":"subscribed"`)) confirmed.note()
            return write(message)
          }
        }
        // All of it within one turn.
        visitors.forEach((one, n) =>
          [1, 2].forEach((id) => one.send({ type: "subscribe", id, channel: `live_${n}_${id}` }))
        )
        yield* until(() => visitors.every((one) => one.answer(2)?.type === "subscribed"))
        expect([asked.all, confirmed.all]).toEqual([120, 120])
        expect(asked.most).toBeLessThanOrEqual(4)
        expect(confirmed.most).toBeLessThanOrEqual(4)
      }).pipe(Effect.scoped, Effect.provide(door))
    }).pipe(Effect.scoped)
  )
})

describe("A crowd that resumes a live channel", () => {
  it.live("a crowd's replay is decoded once, at most 256 events in a turn of the loop", () =>
    Effect.gen(function* () {
      const decoded = yield* steps
      const Counted = Schema.String.pipe(
        Schema.decodeTo(Schema.String, {
          decode: SchemaGetter.transform((text: string) => {
            decoded.note()
            return text
          }),
          encode: SchemaGetter.transform((text: string) => text)
        })
      )
      const door = layerDoor({
        channels: [Channel.make("news", Counted)],
        authorize: allowAll
      })
      yield* Effect.gen(function* () {
        const first = yield* enter
        first.send({ type: "subscribe", id: 1, channel: "news" })
        yield* until(() => first.answer(1) !== undefined)
        const { cursor } = first.last("subscribed")!
        const source = yield* NotificationSource
        const texts = Array.from({ length: 200 }, (_, n) => `n${n}`)
        for (const text of texts) yield* source.notify("news", JSON.stringify(text))
        const heard = (one: typeof first) =>
          one.of("events").flatMap(({ events }) => events.map(({ data }) => data))
        yield* until(() => heard(first).length === 200)
        expect(decoded.all).toBe(200)
        yield* rounds
        decoded.most = 0
        const crowd = yield* Effect.forEach(Array.from({ length: 40 }), () => enter)
        for (const one of crowd) one.send({ type: "subscribe", id: 1, channel: "news", cursor })
        yield* until(() => crowd.every((one) => heard(one).length >= 200))
        for (const one of crowd) expect(heard(one)).toEqual(texts)
        expect(decoded.all).toBe(400)
        expect(decoded.most).toBeLessThanOrEqual(256)
      }).pipe(Effect.scoped, Effect.provide(door))
    }).pipe(Effect.scoped)
  )
})

describe("A consumer that is behind", () => {
  it.live("a consumer that is behind reads pages of 256 events", () => {
    const pages: Array<number> = []
    const spied = layerSpied(({ text }) => pages.push(text))
    return Effect.gen(function* () {
      const reader = yield* OutboxReader
      const from = yield* reader.position
      yield* PgClient.PgClient.use(
        (sql) => sql`insert into realtime.messages (channel, payload)
          select 'room', to_json(1000 + n)::text from generate_series(1, 2000) n`
      )
      yield* reader.position
      const got = yield* reader.batches("room", { from }).pipe(
        Stream.mapAccum(
          () => 0,
          (sum, item) => {
            const now = sum + (item._tag === "Batch" ? item.events.length : 0)
            return [now, [now]] as const
          }
        ),
        Stream.takeUntil((sum) => sum >= 2000),
        Stream.runLast
      )
      expect(got).toMatchObject({ value: 2000 })
      // Each event has four characters.
      expect(Math.max(...pages)).toBe(4 * 256)
    }).pipe(
      Effect.provide(
        layerReaderOnly().pipe(
          Layer.provide(spied),
          Layer.provideMerge(layerInstalled({ wake: "poll" }))
        )
      )
    )
  })
})

describe("A second join with another lease", () => {
  it.live("a join with another lease reads again, and shares no earlier replay", () =>
    Effect.gen(function* () {
      const reader = yield* OutboxReader
      const from = yield* reader.position
      // No message follows on this channel, but the cursor is not the reader's position.
      yield* publish("other", 1)
      yield* reader.position
      const part = { room: 1000, missed: { events: 0, bytes: 0 } }
      const first = yield* reader.join("room", from, undefined, part, new Lease())
      expect(first).toMatchObject({ state: "recovered", replay: [], more: false })
      yield* publish("other", 2)
      yield* reader.position
      const second = yield* reader.join("room", from, undefined, part, new Lease())
      expect(second).toMatchObject({ state: "recovered", replay: [], more: false })
      expect(second.tick).toBeGreaterThan(first.tick)
    }).pipe(Effect.scoped, Effect.provide(layerReader({ wake: "poll" })))
  )
})
