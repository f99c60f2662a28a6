import { useChannel } from "effect-realtime/react"
import { useRef } from "react"
import { OrderUpdates } from "../channels.ts"
import { fetchOrders } from "./api.ts"
import { apply, empty, read } from "./board.ts"

/**
 * The orders, live. The list's cursor tells where the events go on, so each event counts once. After a
 * gap, or when the read failed, the page reads the list again.
 */
export const useOrders = () => {
  const missed = useRef<Parameters<typeof read>[1]>(undefined)
  return useChannel(OrderUpdates, {
    initial: empty,
    reduce: apply,
    onGap: ({ reason }) => {
      missed.current = reason
    },
    load: async () => {
      const snapshot = await fetchOrders()
      return { ...snapshot, value: read(snapshot.value, missed.current) }
    }
  })
}
