// #region channels
import * as Schema from "effect/Schema"
import * as Channel from "effect-realtime/Channel"

export const Order = Schema.Struct({
  id: Schema.Int,
  customer: Schema.String,
  status: Schema.String
})

/** query_results_${id}: Report("42") is query_results_42 */
export const Report = Channel.queryResults(Schema.Array(Order))
/** system_notifications: { type, message }; clients may publish to it */
export const Notices = Channel.make("system_notifications", Channel.SystemNotification, {
  publish: true
})
// #endregion

// #region live
/** your own: any Schema, any name of 1-63 bytes */
export const Room = Channel.family("room_", Schema.String, Schema.Struct({ text: Schema.String }), {
  publish: true
})
/** table_updates_orders: { operation, data }, of the table that is watched for a live channel */
export const OrderUpdates = Channel.tableUpdates("orders", Order)
// #endregion

// #region durable
/** The same table on a durable channel: the node keeps its events for a day. */
export const DurableOrders = Channel.tableUpdates("orders", Order, { delivery: "durable" })
export const DurableReport = Channel.queryResults(Schema.Array(Order), { delivery: "durable" })
/** A text that arrives in parts. Clients may publish { status: "stop" } to it, and nothing else. */
export const Answer = Channel.queryResults(Schema.String, { delivery: "durable", publish: true })
// #endregion
