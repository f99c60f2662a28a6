import type { RealtimeEvent } from "effect-realtime"
import { useChannel } from "effect-realtime/react"
import { DurableOrders, type Order } from "./channels.ts"

type Orders = ReadonlyArray<typeof Order.Type>
declare const fetchOrders: () => Promise<RealtimeEvent.Snapshot<Orders>>

// #region list
export function OrderList() {
  const { stale, value } = useChannel(DurableOrders, {
    initial: [] as Orders,
    load: fetchOrders, // what Realtime.snapshot gave, over your own API
    reduce: (orders, { data, operation }) => [
      ...orders.filter(({ id }) => id !== data.id),
      ...(operation === "DELETE" ? [] : [data])
    ]
  })
  return <p>{stale ? "reading again" : `${value.length} orders`}</p>
}
// #endregion
