// #region list
import type { RealtimeEvent } from "effect-realtime"
import { useChannel } from "effect-realtime/react"
import { DurableOrders, type Order } from "../channels.ts"

type Orders = ReadonlyArray<typeof Order.Type>

/** Your own API, which returns the result of Realtime.snapshot. */
const fetchOrders = (): Promise<RealtimeEvent.Snapshot<Orders>> =>
  fetch("/api/orders").then((response) => response.json())

export function OrderList() {
  const { status, value } = useChannel(DurableOrders, {
    initial: [] as Orders,
    load: fetchOrders,
    reduce: (orders, { data, operation }) => [
      ...orders.filter(({ id }) => id !== data.id),
      ...(operation === "DELETE" ? [] : [data])
    ]
  })
  const text = status === "loading" ? "reading" : `${value.length} orders`
  return <p aria-busy={status !== "live"}>{text}</p>
}
// #endregion
