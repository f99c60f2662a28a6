// #region snapshot
import { PgClient } from "@effect/sql-pg"
import { Effect, Stream } from "effect"
import { Realtime } from "effect-realtime/server"
import { DurableOrders, Order } from "../channels.ts"

export const readThenFollow = Effect.gen(function* () {
  const sql = yield* PgClient.PgClient
  const orders = Realtime.readRows(Order, sql`select * from orders`) // as in events
  const { cursor, value } = yield* Realtime.snapshot(orders)
  yield* Effect.log(`${value.length} orders now, and from here on:`)
  yield* Realtime.events(DurableOrders, { from: cursor }).pipe(
    Stream.runForEach((event) => Effect.log(event))
  )
}) // the app receives each change once
// #endregion
