import { useChannel } from "effect-realtime/react"
import { useRef } from "react"
import { OrderUpdates } from "../channels.ts"
import { fetchOrders } from "./api.ts"
import { apply, empty, read } from "./board.ts"

/** The page needs the list, so it retries until the list arrives. */
const patiently = <A>(load: () => Promise<A>): Promise<A> =>
  load().catch(async () => {
    await new Promise((resolve) => setTimeout(resolve, 1000))
    return patiently(load)
  })

/**
 * The orders, live. The page subscribes before it reads the list, and the list's cursor tells which
 * events it contains, so each event counts once. After a gap the page reads the list again.
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
