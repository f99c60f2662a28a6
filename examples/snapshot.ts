// #region snapshot
import { PgClient } from "@effect/sql-pg"
import { Effect, Stream } from "effect"
import { Realtime } from "effect-realtime/server"
import { DurableOrders, type Order } from "./channels.ts"

export const readThenFollow = Effect.gen(function* () {
  const sql = yield* PgClient.PgClient
  const { cursor, value } = yield* Realtime.snapshot(sql<typeof Order.Type>`select * from orders`)
  yield* Effect.log(`${value.length} orders now, and from here on:`)
  yield* Realtime.events(DurableOrders, { from: cursor }).pipe(
    Stream.runForEach((event) => Effect.log(event))
  )
}) // no change is missed, and none is seen twice
// #endregion
