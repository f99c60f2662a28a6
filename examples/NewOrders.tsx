// #region rows
import * as Channel from "effect-realtime/Channel"
import { useRows } from "effect-realtime/react"
import { Order } from "./channels.ts"

export const Orders = Channel.table("orders", Order, { key: "id", filter: ["status", "customer"] })

export function NewOrders() {
  const { rows, status } = useRows(Orders, { where: { status: "new" } })
  return <p aria-busy={status !== "live"}>{rows.length} new orders</p>
}
// #endregion
