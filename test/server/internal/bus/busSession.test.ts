/** The session on which the bus sends, when it and the pool are silent: real PostgreSQL behind a hop. */
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Context, Effect, Fiber, Layer, Option, Redacted, Schedule, SubscriptionRef } from "effect"
import * as BusSession from "../../../../src/server/internal/bus/busSession.ts"
import type { SourceState } from "../../../../src/server/NotificationSource.ts"
import { layerDatabase, TestDatabase } from "../../../support/database.ts"
import { databaseHop } from "../../../support/hop.ts"
import { until } from "../../../support/until.ts"

/** A bus whose session is open, with a pool of one connection, which is open too. */
const make = Effect.gen(function* () {
  const { url } = yield* TestDatabase
  const near = yield* databaseHop(url)
  const pool = Context.get(
    yield* Layer.build(PgClient.layer({ url: Redacted.make(near.url), maxConnections: 1 })),
    PgClient.PgClient
  )
  yield* pool`select 1`
  const link = yield* SubscriptionRef.make<SourceState>("up")
  const notify = yield* BusSession.make(pool, link)
  const direct = yield* PgClient.PgClient
  // Its first heartbeat is answered.
  yield* Effect.repeat(
    direct`select 1 from pg_stat_activity where datname = current_database()
    and application_name = 'effect-realtime bus' and query = 'select 1' and state = 'idle'`,
    { until: (rows) => rows.length === 1, schedule: Schedule.spaced(10) }
  )
  // The answer has arrived too, and nothing is on its way: what arrived during a silence would end it.
  yield* notify("bus", "first")
  // Closing does not wait for what is silent.
  yield* Effect.addFinalizer(() => Effect.sync(near.cut))
  return { link, near, notify }
})

describe("The session of the bus", () => {
  it.live(
    "opens again when the link is back, and sends what waits for a dead connection of the pool",
    () =>
      Effect.gen(function* () {
        const { link, near, notify } = yield* make
        near.silence()
        yield* SubscriptionRef.set(link, "down")
        const waiting = yield* Effect.forkChild(notify("bus", "waits"), { startImmediately: true })
        near.heal()
        yield* SubscriptionRef.set(link, "up")
        const sent = yield* Effect.timeoutOption(notify("bus", "new"), "3 seconds")
        expect(Option.isSome(sent)).toBe(true)
        const joined = yield* Effect.timeoutOption(Fiber.join(waiting), "3 seconds")
        expect(Option.isSome(joined)).toBe(true)
      }).pipe(Effect.scoped, Effect.provide(layerDatabase))
  )
  it.live("opens again at once when the link is back, also while it waits for its heartbeat", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      let waits = true
      const near = yield* databaseHop(url, () => (data) => {
        if (waits || !data.includes("select 1")) return
        waits = true
        near.silence()
      })
      const pool = Context.get(
        yield* Layer.build(PgClient.layer({ url: Redacted.make(near.url), maxConnections: 1 })),
        PgClient.PgClient
      )
      yield* Effect.addFinalizer(() => Effect.sync(near.cut))
      waits = false
      const link = yield* SubscriptionRef.make<SourceState>("up")
      const notify = yield* BusSession.make(pool, link)
      yield* until(() => waits)
      yield* SubscriptionRef.set(link, "down")
      near.heal()
      yield* SubscriptionRef.set(link, "up")
      const sent = yield* Effect.timeoutOption(notify("bus", "new"), "3 seconds")
      expect(Option.isSome(sent)).toBe(true)
    }).pipe(Effect.scoped, Effect.provide(layerDatabase))
  )

  it.live("sends the text on which it finds itself dead, once the next session is there", () =>
    Effect.gen(function* () {
      const { near, notify } = yield* make
      near.silence()
      // What is open stays silent.
      near.heal()
      // 4 s until the session counts as dead. The connection of the pool is dead as well.
      const sent = yield* Effect.timeoutOption(notify("bus", "late"), "6 seconds")
      expect(Option.isSome(sent)).toBe(true)
    }).pipe(Effect.scoped, Effect.provide(layerDatabase))
  )
})
