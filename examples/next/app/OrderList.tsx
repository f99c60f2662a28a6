// #region list
"use client"
import type { RealtimeEvent } from "effect-realtime"
import { useChannel } from "effect-realtime/react"
import { type Order, Orders } from "../channels.ts"

type Rows = ReadonlyArray<typeof Order.Type>

export function OrderList({ orders }: { readonly orders: RealtimeEvent.Snapshot<Rows> }) {
  const { status, value } = useChannel(Orders, {
    initial: orders,
    reduce: (rows, { data, operation }) =>
      [
        ...rows.filter(({ id }) => id !== data.id),
        ...(operation === "DELETE" ? [] : [data])
      ].toSorted((one, other) => one.id - other.id)
  })
  return (
    <ul aria-busy={status !== "live"}>
      {value.map(({ customer, id, status }) => (
        <li key={id}>
          {customer}: {status}
        </li>
      ))}
    </ul>
  )
}
// #endregion
