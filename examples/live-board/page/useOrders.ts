import { useChannel } from "effect-realtime/react"
import { useRef } from "react"
import { OrderUpdates } from "../channels.ts"
import { fetchOrders } from "./api.ts"
import { apply, empty, read } from "./board.ts"

/**
 * The orders, live. The list says at which position it was read, and the events go on from there, so
 * none is missed and none counts twice. After a gap, or when it failed, it is read again.
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
