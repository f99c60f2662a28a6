// #region channels
import * as Schema from "effect/Schema"
import * as Channel from "effect-realtime/Channel"

const Order = Schema.Struct({ id: Schema.Int, status: Schema.String })
export const Orders = Channel.table("orders", Order, { key: "id", filter: "status" })

const Job = Schema.Struct({ n: Schema.Int })
export const Jobs = Channel.make("jobs", Job, { delivery: "durable" })
// #endregion
