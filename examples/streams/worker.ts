// #region worker
import { Effect, Stream } from "effect"
import { Realtime } from "effect-realtime/server"
import { OrderUpdates } from "../channels.ts"

export const receipts = Realtime.subscribe(OrderUpdates).pipe(
  Stream.filter(({ operation }) => operation === "INSERT"),
  Stream.runForEach(({ data }) => Effect.log(`a receipt for ${data.customer}`))
)
// #endregion
