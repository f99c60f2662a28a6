// #region before
import { Effect, Schema } from "effect"
import { Channel } from "effect-realtime"
import { Order } from "../channels.ts"

/** What is deployed today. It ignores columns that it does not name. */
export const Orders = Channel.tableUpdates("orders", Order, { delivery: "durable" })
// #endregion

// #region after
/** Reads rows that were written before the column `note` was added, and after. */
export const OrderWithNote = Schema.Struct({
  ...Order.fields,
  note: Schema.NullOr(Schema.String).pipe(Schema.withDecodingDefaultKey(Effect.succeed(null)))
})
export const OrdersWithNotes = Channel.tableUpdates("orders", OrderWithNote, {
  delivery: "durable"
})
// #endregion
