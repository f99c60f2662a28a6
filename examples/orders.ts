// #region orders
import * as Channel from "effect-realtime/Channel"
import { Order } from "./channels.ts"

export const Orders = Channel.table("orders", Order, { key: "id", filter: ["status", "customer"] })
// #endregion
