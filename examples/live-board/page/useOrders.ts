import { useChannel } from "effect-realtime/react"
import { useMemo } from "react"
import { Orders, type Order, type Status } from "../channels.ts"
import { fetchOrders } from "./api.ts"

export interface Where {
  readonly status: Status
}

/** The orders, live: the rows, how far to believe them, and what reads them again. */
export const useOrders = (where: Where | undefined) => {
  const { value, ...collected } = useChannel(Orders, {
    initial: none,
    reduce: (orders, { data, operation }) => {
      const others = orders.filter(({ id }) => id !== data.id)
      return operation === "DELETE" ? others : [...others, data]
    },
    load: fetchOrders
  })
  const status = where?.status
  const rows = useMemo(
    () => (status === undefined ? value : value.filter((order) => order.status === status)),
    [value, status]
  )
  return { rows, ...collected }
}

const none: ReadonlyArray<Order> = []
