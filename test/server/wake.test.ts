/**
 * When a reader looks. Its own timers are set to minutes here, so that nothing but what is tested can
 * wake it.
 */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Queue } from "effect"
import { type Item, OutboxReader } from "../../src/server/OutboxReader.ts"
import * as PgInstaller from "../../src/server/PgInstaller.ts"
import { layerInstalled, layerReader, publish, session } from "./support/durable.ts"

const asleep = { busyInterval: "5 minutes", idleInterval: "5 minutes" } as const

const texts = (item: Item) =>
  item._tag === "Batch" ? item.events.map(({ text }) => text) : [item._tag]

/** Lets the 20 ms pass for which a second NOTIFY is held back, by the clock of the database. */
const quiet = Effect.gen(function* () {
  const db = yield* session
  yield* Effect.repeat(
    db.query(
      "select extract(epoch from clock_timestamp()) * 1000 - last_value > 20 passed from realtime.last_wake"
    ),
    { until: ({ rows }) => rows[0]!["passed"] === true }
  )
}).pipe(Effect.scoped)

describe("a reader", () => {
  it.live.each(["hybrid", "notify"] as const)("is woken by a commit with wake: %s", (wake) =>
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

  it.live("is woken by the commit of a transaction that published while others woke it", () =>
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

  it.live("looks at once after its session was lost: nobody heard the wakes in between", () =>
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

  it.live("finds by itself what nobody woke it for", () =>
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

describe("the database", () => {
  it.live("notifies as its setting says: always, at most once in 20 ms, or never", () =>
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
        // A transaction of its own each, as fast as the server can.
        yield* db.query(
          `do $$ begin for n in 1..100 loop perform realtime.publish('room', '1'::text); commit; end loop; end $$`,
          [],
          false
        )
        if (wake === "hybrid") most = 1 + Math.floor((performance.now() - begun) / 20)
        // Notifications come in the order of the commits: this one is the last.
        yield* db.query("select pg_notify('realtime', 'end')")
        let count = 0
        while ((yield* Queue.take(heard)).payload !== "end") count++
        told[wake] = count
      }
      expect(told).toMatchObject({ notify: 100, poll: 0 })
      expect(told["hybrid"]).toBeGreaterThan(0)
      // However slow the machine is: a hundred commits cannot all be 20 ms apart.
      expect(told["hybrid"]).toBeLessThanOrEqual(Math.min(most, 99))
    }).pipe(Effect.scoped, Effect.provide(layerInstalled()))
  )
})
