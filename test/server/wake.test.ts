/**
 * When a reader looks. Its own timers are minutes here, so that only the tested wake can wake it.
 */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Queue } from "effect"
import { type Item, OutboxReader } from "../../src/server/OutboxReader.ts"
import * as PgInstaller from "../../src/server/PgInstaller.ts"
import { layerInstalled, layerReader, publish, session } from "./support/durable.ts"

const asleep = { busyInterval: "5 minutes", idleInterval: "5 minutes" } as const

const texts = (item: Item) =>
  item._tag === "Batch" ? item.events.map(({ text }) => text) : [item._tag]

/** Waits for the 20 ms in which a second NOTIFY is held back, by the clock of the database. */
const quiet = Effect.gen(function* () {
  const db = yield* session
  yield* Effect.repeat(
    db.query(
      "select extract(epoch from clock_timestamp()) * 1000 - last_value > 20 passed from realtime.last_wake"
    ),
    { until: ({ rows }) => rows[0]!["passed"] === true }
  )
}).pipe(Effect.scoped)

describe("The wakes of a reader", () => {
  it.live.each(["hybrid", "notify"] as const)("a commit wakes the reader with wake: %s", (wake) =>
    Effect.gen(function* () {
      const reader = yield* OutboxReader
      const queue = yield* reader.follow("room")
      yield* publish("room", 1)
      expect(texts(yield* Queue.take(queue))).toEqual(["1"])
      yield* quiet
      yield* publish("room", 2)
      expect(texts(yield* Queue.take(queue))).toEqual(["2"])
    }).pipe(Effect.scoped, Effect.provide(layerReader({ wake }, asleep)))
  )

  it.live("a commit wakes the reader although another wake was sent during its transaction", () =>
    Effect.gen(function* () {
      const reader = yield* OutboxReader
      const queue = yield* reader.follow("room")
      const late = yield* session
      yield* publish("room", 1)
      expect(texts(yield* Queue.take(queue))).toEqual(["1"])
      // Within the 20 ms after a wake, so that a wake decided here would not be sent.
      yield* late.query("begin")
      yield* late.query(
        "select setval('realtime.last_wake', (extract(epoch from clock_timestamp()) * 1000)::bigint)"
      )
      yield* late.query("select realtime.publish('room', '2'::text)")
      yield* quiet
      yield* late.query("commit")
      expect(texts(yield* Queue.take(queue))).toEqual(["2"])
    }).pipe(Effect.scoped, Effect.provide(layerReader({ wake: "hybrid" }, asleep)))
  )

  it.live("a reader that lost its session looks at once, because it missed the wakes", () =>
    Effect.gen(function* () {
      const reader = yield* OutboxReader
      const db = yield* session
      const queue = yield* reader.follow("room")
      yield* reader.position
      yield* db.query("set realtime.wake = off")
      yield* db.query(
        `select realtime.publish('room', '1'::text), pg_terminate_backend(pid)
         from pg_stat_activity where datname = current_database() and application_name = 'effect-realtime reader'`
      )
      expect(texts(yield* Queue.take(queue))).toEqual(["1"])
    }).pipe(Effect.scoped, Effect.provide(layerReader({ wake: "hybrid" }, asleep)))
  )

  it.live("a reader finds messages without a wake at its idle interval", () =>
    Effect.gen(function* () {
      const reader = yield* OutboxReader
      const db = yield* session
      const queue = yield* reader.follow("room")
      yield* reader.position
      yield* db.query("set realtime.wake = off")
      yield* db.query("select realtime.publish('room', '1'::text)")
      expect(texts(yield* Queue.take(queue))).toEqual(["1"])
    }).pipe(Effect.scoped, Effect.provide(layerReader({ wake: "hybrid" }, { idleInterval: 200 })))
  )
})

describe("The wakes by the database", () => {
  it.live("commits wake always, at most once in 20 ms, or never, by the setting wake", () =>
    Effect.gen(function* () {
      const listener = yield* session
      const db = yield* session
      const heard = yield* listener.listen("realtime")
      const told: Record<string, number> = {}
      let most = 1
      for (const wake of ["notify", "hybrid", "poll"] as const) {
        yield* PgInstaller.install({ wake })
        yield* quiet
        yield* Queue.clear(heard)
        const begun = performance.now()
        // Each is a transaction of its own, as fast as the server can.
        yield* db.query(
          `do $$ begin for n in 1..100 loop perform realtime.publish('room', '1'::text); commit; end loop; end $$`,
          [],
          false
        )
        if (wake === "hybrid") most = 1 + Math.floor((performance.now() - begun) / 20)
        // Notifications arrive in the order of the commits: this one is the last.
        yield* db.query("select pg_notify('realtime', 'end')")
        let count = 0
        while ((yield* Queue.take(heard)).payload !== "end") count++
        told[wake] = count
      }
      expect(told).toMatchObject({ notify: 100, poll: 0 })
      expect(told["hybrid"]).toBeGreaterThan(0)
      // However slow the machine is, a hundred commits cannot all be 20 ms apart.
      expect(told["hybrid"]).toBeLessThanOrEqual(Math.min(most, 99))
    }).pipe(Effect.scoped, Effect.provide(layerInstalled()))
  )
})
