// #region store
import type { RealtimeEvent } from "effect-realtime"
import { Collector, type PlainClient } from "effect-realtime/client"
import { createStore } from "zustand/vanilla"
import { DurableOrders, type Order } from "../channels.ts"

type Orders = ReadonlyMap<number, typeof Order.Type>

/** Your own API, which returns the result of `Realtime.snapshot`. */
const fetchOrders = async () => {
  const response = await fetch("/api/orders")
  const state = (await response.json()) as RealtimeEvent.Snapshot<ReadonlyArray<typeof Order.Type>>
  return { ...state, value: new Map(state.value.map((order) => [order.id, order])) as Orders }
}

/** Follows the table until `stop`: the store changes once for all rows of a batch. */
export const makeOrdersStore = (client: PlainClient.PlainClient) => {
  const orders = Collector.make(client, DurableOrders, {
    initial: new Map() as Orders,
    load: fetchOrders,
    reduce: (orders, { data, operation }) => {
      const next = new Map(orders)
      if (operation === "DELETE") next.delete(data.id)
      else next.set(data.id, data)
      return next
    }
  })
  const store = createStore(() => orders.getSnapshot())
  const stop = orders.subscribe(() => store.setState(orders.getSnapshot(), true))
  return { store, stop }
}
// #endregion
