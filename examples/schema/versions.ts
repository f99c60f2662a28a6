// #region before
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Channel from "effect-realtime/Channel"
import { Order } from "../channels.ts"

/** The deployed version. It ignores columns that it does not name. */
export const Orders = Channel.tableUpdates("orders", Order, { delivery: "durable" })
// #endregion

// #region after
/** Reads rows from before and after the new column `note`. */
export const OrderWithNote = Schema.Struct({
  ...Order.fields,
  note: Schema.NullOr(Schema.String).pipe(Schema.withDecodingDefaultKey(Effect.succeed(null)))
})
export const OrdersWithNotes = Channel.tableUpdates("orders", OrderWithNote, {
  delivery: "durable"
})
// #endregion
