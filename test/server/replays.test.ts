/**
 * The cost of clients to the database: a bounded number of replays at once, none for a client that
 * has left, and no statement without a client that waits for it.
 */
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Queue, Schema } from "effect"
import * as Channel from "../../src/Channel.ts"
import * as Door from "../../src/server/internal/door/door.ts"
import * as MemorySource from "../../src/server/MemorySource.ts"
import * as Realtime from "../../src/server/Realtime.ts"
import { type Options, OutboxReader } from "../../src/server/OutboxReader.ts"
import { allowAll, type AnonymousOptions } from "../../src/server/ServerOptions.ts"
import { refusals, TestDoor, visit, type Visitor } from "../support/sessions.ts"
import {
  layerInstalled,
  layerReader,
  layerReaderOnly,
  publish,
  session
} from "./support/durable.ts"
import { layerSpied } from "./support/pool.ts"

const Log = Channel.make("room", Schema.String, { delivery: "durable", publish: true })

/** The sessions of this database that wait for a lock with such a statement. */
const blocked = (statement: string) =>
  PgClient.PgClient.use(
    (sql) => sql<{ readonly n: number }>`
      select count(*)::int n from pg_stat_activity
      where datname = current_database() and wait_event_type = 'Lock' and query like ${statement}`
  ).pipe(
    Effect.map((rows) => rows[0]!.n),
    Effect.orDie
  )

/** Replays that wait for a page or for the witness before it, and pages of the reader. */
const waiting = blocked("%realtime.messages m%")

/** Sessions that wait for an exclusive lock. */
const lockers = blocked("lock %")

const untilWaiting = (count: number) =>
  Effect.repeat(Effect.delay(waiting, "5 millis"), { until: (found) => found === count })

/** `count` positions, each one message after the one before. */
const positions = (count: number) =>
  Effect.gen(function* () {
    const reader = yield* OutboxReader
    const found: Array<string> = []
    for (let n = 0; n < count; n++) {
      found.push(yield* reader.position)
      yield* publish("room", n)
    }
    // A replay ends where the reader stands.
    yield* reader.position
    return found
  })

const lock = Effect.gen(function* () {
  const db = yield* session
  yield* db.query("begin")
  yield* db.query("lock realtime.messages in access exclusive mode")
  return db.query("rollback")
})

/** A server without sockets over a reader. */
const layerDoor = (options: Partial<AnonymousOptions>, reader?: Options) =>
  Layer.effect(TestDoor, Door.make({ channels: [Log], authorize: allowAll, ...options })).pipe(
    Layer.provide(Realtime.layer()),
    Layer.provide(MemorySource.layer),
    Layer.provideMerge(layerReader({ wake: "poll" }, reader))
  )

/** A client that has sent hello. */
const enter = Effect.tap(visit({ hello: false }), (visitor) =>
  Effect.sync(() => visitor.send({ type: "hello", version: 1 }))
)

const answered = (visitor: Visitor, id: number) =>
  Effect.repeat(
    Effect.delay(
      Effect.sync(() => visitor.answer(id)),
      "5 millis"
    ),
    { until: (answer) => answer !== undefined }
  )

describe("A publish to a locked database", () => {
  it.live("a publish that waits longer than sourceWait is cancelled, and may be retried", () =>
    Effect.gen(function* () {
      const unlock = yield* lock
      const visitor = yield* enter
      const publish = (id: number) =>
        visitor.send({ type: "publish", id, channel: "room", key: `k${id % 10}`, data: "x" })
      for (let id = 1; id <= 3; id++) publish(id)
      for (let id = 1; id <= 3; id++) {
        expect(yield* answered(visitor, id)).toMatchObject({ code: "source/down", retry: "later" })
      }
      // No statement of it is left in the database, though the lock is still held.
      const left = PgClient.PgClient.use(
        (sql) => sql`select pid from pg_stat_activity
          where datname = current_database() and state = 'active' and query like '%realtime.publish(%' and pid <> pg_backend_pid()`
      )
      yield* Effect.repeat(Effect.delay(left, "5 millis"), { until: (rows) => rows.length === 0 })
      yield* unlock
      publish(11)
      expect((yield* answered(visitor, 11))?.type).toBe("published")
      expect(
        yield* PgClient.PgClient.use((sql) => sql`select payload from realtime.messages`)
      ).toHaveLength(1)
    }).pipe(Effect.scoped, Effect.provide(layerDoor({ limits: { sourceTimeout: "300 millis" } })))
  )
})

describe("The replays of a reader", () => {
  it.live("a replay is cancelled when its client leaves, and frees its place for others", () =>
    Effect.gen(function* () {
      const reader = yield* OutboxReader
      const from = yield* positions(31)
      const unlock = yield* lock
      const hostile = yield* Effect.forEach(from.slice(0, 30), (cursor) =>
        Effect.forkChild(reader.join("room", cursor))
      )
      yield* untilWaiting(8)
      yield* Fiber.interruptAll(hostile)
      yield* untilWaiting(0)
      const join = yield* Effect.forkChild(reader.join("room", from[30]))
      yield* untilWaiting(1)
      yield* unlock
      expect(yield* Fiber.join(join)).toMatchObject({ state: "recovered" })
    }).pipe(Effect.scoped, Effect.provide(layerReader({ wake: "poll" })))
  )

  it.live("joins from one position share a replay, which goes on when one of them leaves", () =>
    Effect.gen(function* () {
      const reader = yield* OutboxReader
      const [from] = yield* positions(3)
      const unlock = yield* lock
      const [first, ...others] = yield* Effect.forEach([1, 2, 3, 4, 5], () =>
        Effect.forkChild(reader.join("room", from))
      )
      yield* untilWaiting(1)
      yield* Fiber.interrupt(first!)
      expect(yield* waiting).toBe(1)
      yield* unlock
      for (const other of others) {
        const { replay, state } = yield* Fiber.join(other)
        expect([state, replay.flatMap(({ events }) => events.map(({ text }) => text))]).toEqual([
          "recovered",
          ["0", "1", "2"]
        ])
      }
    }).pipe(Effect.scoped, Effect.provide(layerReader({ wake: "poll" })))
  )

  it.live("a replay between two pages of a tick reads the table, and misses no event", () =>
    Effect.gen(function* () {
      const reader = yield* OutboxReader
      const queue = yield* reader.follow("room")
      yield* publish("room", 0)
      yield* reader.position
      const { cursor } = yield* Queue.take(queue)
      for (const n of [1, 2]) yield* publish("room", n)
      const unlockTake = yield* lock
      yield* Effect.forkChild(reader.position)
      // The end of the tick waits for this lock, and the first page waits for the next lock.
      yield* Effect.repeat(Effect.delay(blocked("%realtime.messages o%"), "5 millis"), {
        until: (found) => found === 1
      })
      const first = yield* Effect.forkChild(lock)
      yield* Effect.repeat(Effect.delay(lockers, "5 millis"), { until: (found) => found === 1 })
      yield* unlockTake
      const unlock = yield* Fiber.join(first)
      // Another lock waits for the first page, and the second page for that lock.
      yield* untilWaiting(1)
      const second = yield* Effect.forkChild(lock)
      yield* Effect.repeat(Effect.delay(lockers, "5 millis"), { until: (found) => found === 1 })
      yield* unlock
      expect(yield* Queue.take(queue)).toMatchObject({ events: [{ text: "1" }] })
      const unlockAgain = yield* Fiber.join(second)
      const joining = yield* Effect.forkChild(reader.join("room", cursor), {
        startImmediately: true
      })
      yield* unlockAgain
      const { replay, tick } = yield* Fiber.join(joining)
      const texts = replay.flatMap(({ events }) => events.map(({ text }) => text))
      expect(yield* Queue.take(queue)).toMatchObject({ events: [{ text: "2" }], tick })
      yield* publish("room", 3)
      yield* reader.position
      const next = yield* Queue.take(queue)
      expect([...texts, next]).toMatchObject([
        "1",
        "2",
        { events: [{ text: "3" }], tick: tick + 1 }
      ])
    }).pipe(
      Effect.scoped,
      Effect.provide(
        layerReader(
          { wake: "poll" },
          {
            maxPageMessages: 1,
            busyInterval: "5 minutes",
            idleInterval: "5 minutes",
            upkeep: false
          }
        )
      )
    )
  )

  it.live("at most 8 replays run at once, each from its first page to its last", () =>
    Effect.gen(function* () {
      const pages: Array<string> = []
      const spied = layerSpied(({ channel }) => pages.push(channel))
      yield* Effect.gen(function* () {
        const reader = yield* OutboxReader
        const from = yield* reader.position
        const rooms = Array.from({ length: 24 }, (_, n) => `room_${n}`)
        for (const room of rooms) for (let n = 0; n < 6; n++) yield* publish(room, n)
        yield* reader.position
        let done = 0
        let most = 0
        yield* Effect.forEach(
          rooms,
          (room) =>
            Effect.tap(reader.join(room, from), ({ replay }) =>
              Effect.sync(() => {
                most = Math.max(most, new Set(pages).size - done)
                done++
                expect(replay.flatMap(({ events }) => events)).toHaveLength(6)
              })
            ),
          { concurrency: "unbounded" }
        )
        expect(pages.length).toBeGreaterThanOrEqual(24 * 6)
        expect(most).toBeGreaterThan(1)
        expect(most).toBeLessThanOrEqual(8)
      }).pipe(
        Effect.provide(
          layerReaderOnly({ maxPageMessages: 1 }).pipe(
            Layer.provide(spied),
            Layer.provideMerge(layerInstalled({ wake: "poll" }))
          )
        )
      )
    })
  )

  const bounds = [
    ["maxReplayEvents", 3, ["a", "b", "c"], "d"],
    // As JSON texts: 5 bytes each, and the last one is one byte too many.
    ["maxReplayBytes", 10, ["aaa", "bbb"], "1"]
  ] as const
  it.live.each(bounds)("a replay over %s is a reset", ([option, limit, payloads, more]) =>
    Effect.gen(function* () {
      const reader = yield* OutboxReader
      const cursor = yield* reader.position
      for (const payload of payloads) yield* publish("room", payload)
      yield* reader.position
      const resume = Effect.gen(function* () {
        const visitor = yield* enter
        visitor.send({ type: "subscribe", id: 1, channel: "room", cursor })
        yield* answered(visitor, 1)
        const data = visitor.of("events").flatMap(({ events }) => events.map(({ data }) => data))
        return [visitor.last("subscribed")?.state, data]
      })
      const before = yield* refusals("reset")
      expect(yield* resume).toEqual(["recovered", payloads])
      expect(yield* refusals("reset")).toBe(before)
      yield* publish("room", more)
      yield* reader.position
      expect(yield* resume).toEqual(["reset", []])
      expect(yield* refusals("reset")).toBe(before + 1)
    }).pipe(Effect.scoped, Effect.provide(layerDoor({}, { [option]: limit })))
  )
})
