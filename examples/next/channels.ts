// #region channels
import * as Schema from "effect/Schema"
import * as Channel from "effect-realtime/Channel"

export const Order = Schema.Struct({
  id: Schema.Int,
  customer: Schema.String,
  status: Schema.String
})

export const Orders = Channel.tableUpdates("orders", Order, { delivery: "durable" })
// #endregion
