import { useChannel } from "effect-realtime/react"
import { useRef } from "react"
import { OrderUpdates } from "../channels.ts"
import { fetchOrders } from "./api.ts"
import { apply, empty, read } from "./board.ts"

/** There is nothing to show without the list, so it is asked for until it comes. */
const patiently = <A>(load: () => Promise<A>): Promise<A> =>
  load().catch(async () => {
    await new Promise((resolve) => setTimeout(resolve, 1000))
    return patiently(load)
  })

/**
 * The orders, live. The channel is active before the list is read, and the list says which events are
 * in it already, so none is missed and none counts twice. After a gap it is read again.
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
      const snapshot = await patiently(fetchOrders)
      return { ...snapshot, value: read(snapshot.value, missed.current) }
    }
  })
}
