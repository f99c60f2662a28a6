// #region rows
import { Effect, Stream } from "effect"
import * as Channel from "effect-realtime/Channel"
import { RealtimeClient } from "effect-realtime/client"
import { RealtimeServer } from "effect-realtime/server"
import { RealtimeTest } from "effect-realtime/testing"
import { Order } from "../channels.ts"

export const Orders = Channel.table("orders", Order, { key: "id", filter: "status" })

/** Returns what a page with new orders only shows, after each of its changes. */
export const newOrders = Effect.gen(function* () {
  const { rows, settle, transaction } = yield* RealtimeTest.RealtimeTest
  const client = yield* RealtimeClient.RealtimeClient
  yield* rows.insert(Orders, { id: 1, customer: "Ada", status: "new" })
  yield* rows.insert(Orders, { id: 2, customer: "Joan", status: "packed" })
  const shown: Array<ReadonlyArray<number>> = []
  yield* client.rows(Orders, { where: { status: "new" } }).pipe(
    Stream.filter(({ status }) => status === "live"),
    Stream.runForEach(({ rows }) => Effect.sync(() => shown.push(rows.map(({ id }) => id)))),
    Effect.forkScoped
  )
  yield* settle
  yield* rows.update(Orders, { id: 2 }, { status: "new" })
  yield* settle
  yield* transaction(
    Effect.gen(function* () {
      yield* rows.update(Orders, { id: 1 }, { status: "packed" })
      yield* rows.delete(Orders, { id: 2 })
      return yield* Effect.fail("the shop is closed")
    })
  ).pipe(Effect.ignore)
  yield* settle
  yield* rows.delete(Orders, { id: 1 })
  yield* settle
  return shown
}).pipe(
  Effect.scoped,
  Effect.provide(RealtimeTest.layer({ channels: [Orders], authorize: RealtimeServer.allowAll }))
)
// #endregion
