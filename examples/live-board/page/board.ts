/**
 * The orders on this page: the list that the page read, and the events since then.
 */
import type { Channel, RealtimeEvent } from "effect-realtime"
import { type Order, type OrderUpdates, type Status, statuses } from "../channels.ts"

export interface Entry {
  readonly order: Order
  /** The order's animation. A removed order stays until its animation ends. */
  readonly change: "added" | "changed" | "removed" | undefined
}

export interface Board {
  readonly entries: ReadonlyMap<number, Entry>
  /** `false` until the page has read the list. */
  readonly loaded: boolean
  /** Set after the page read the list again because of a gap. */
  readonly caughtUp: { readonly reason: RealtimeEvent.Gap["reason"]; readonly at: Date } | undefined
  /** Milliseconds from the latest write in the database to its arrival here. */
  readonly delay: number | undefined
}

export const empty: Board = {
  entries: new Map(),
  loaded: false,
  caughtUp: undefined,
  delay: undefined
}

/** The list, before any event. */
export const read = (
  orders: ReadonlyArray<Order>,
  missed: RealtimeEvent.Gap["reason"] | undefined
): Board => ({
  entries: new Map(orders.map((order) => [order.id, { order, change: undefined }])),
  loaded: true,
  caughtUp: missed === undefined ? undefined : { reason: missed, at: new Date() },
  delay: undefined
})

const capacity = 100

/** Applies one event. The events of a row arrive in the order of its changes. */
export const apply = (board: Board, update: Channel.Payload<typeof OrderUpdates>): Board => {
  const { data: order, operation } = update
  const known = board.entries.get(order.id)
  if (known?.change === "removed") return board
  if (known === undefined && operation === "DELETE") return board
  const entries = new Map(board.entries)
  if (operation === "DELETE") return { ...board, entries: entries.set(order.id, removed(known!)) }
  entries.set(order.id, { order, change: known === undefined ? "added" : "changed" })
  if (entries.size > capacity) entries.delete(Math.min(...entries.keys()))
  return { ...board, entries, delay: Date.now() - order.updated_at.getTime() }
}

const removed = ({ order }: Entry): Entry => ({ order, change: "removed" })

/** Newest first. */
export const sorted = ({ entries }: Board): ReadonlyArray<Entry> =>
  [...entries.values()].toSorted((one, other) => other.order.id - one.order.id)

export const count = ({ entries }: Board): ReadonlyMap<Status, number> => {
  const counts = new Map<Status, number>(statuses.map((status) => [status, 0]))
  for (const { change, order } of entries.values()) {
    if (change !== "removed") counts.set(order.status, counts.get(order.status)! + 1)
  }
  return counts
}
