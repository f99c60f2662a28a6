import { Schema } from "effect"
import { Channel } from "effect-realtime"

// #region channels
const Order = Schema.Struct({ id: Schema.Int, status: Schema.String })
export const Orders = Channel.table("orders", Order, { key: "id", filter: "status" })

const Job = Schema.Struct({ n: Schema.Int })
export const Jobs = Channel.make("jobs", Job, { delivery: "durable" })
// #endregion
