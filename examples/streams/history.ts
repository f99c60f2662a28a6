// #region history
import { Effect } from "effect"
import { Realtime } from "effect-realtime/server"
import { DurableOrders } from "../channels.ts"

/** The last 40 changes of orders, or all if there are fewer. */
export const recent = Effect.gen(function* () {
  const { events, more } = yield* Realtime.history(DurableOrders, { limit: 20 })
  if (!more) return events
  const before = events[0]!.id
  const older = yield* Realtime.history(DurableOrders, { before, limit: 20 })
  return [...older.events, ...events] // the oldest first
})
// #endregion
