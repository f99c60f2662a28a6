import * as Schema from "effect/Schema"
import * as Channel from "effect-realtime/Channel"

export const Order = Schema.Struct({ id: Schema.Int, status: Schema.String })
export type Order = typeof Order.Type

/** The table that the streamed page shows. */
export const Orders = Channel.tableUpdates("orders", Order, { delivery: "durable" })
