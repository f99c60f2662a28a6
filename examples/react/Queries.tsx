// #region query
import { type QueryKey, useQuery, useQueryClient } from "@tanstack/react-query"
import type { Channel } from "effect-realtime/Channel"
import { useChannel } from "effect-realtime/react"
import { useEffect } from "react"
import { OrderUpdates } from "../channels.ts"

/** Another object after each batch of events, and after each gap. */
const changes = { initial: {}, load: () => ({}), reduce: () => ({}) }

/** Reads a query again when its table has changed: once for all rows of a batch. */
const useInvalidate = <A,>(channel: Channel<A>, queryKey: QueryKey) => {
  const queries = useQueryClient()
  const { value } = useChannel(channel, changes)
  useEffect(() => {
    if (value !== changes.initial) void queries.invalidateQueries({ queryKey })
  }, [queries, queryKey, value])
}

const queryKey = ["orders", "new"]

export function NewOrders() {
  const { data } = useQuery({
    queryKey,
    queryFn: (): Promise<ReadonlyArray<unknown>> =>
      fetch("/api/orders?status=new").then((response) => response.json())
  })
  useInvalidate(OrderUpdates, queryKey)
  return <p>{data === undefined ? "reading" : `${data.length} new orders`}</p>
}
// #endregion
