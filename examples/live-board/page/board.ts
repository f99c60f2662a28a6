/**
 * What the list shows of the rows: the newest of them, what happened to each, and those that leave.
 */
import { type Order, type Status, statuses } from "../channels.ts"

export interface Entry {
  readonly order: Order
  /** The order's animation. A removed order stays until its animation ends. */
  readonly change: "added" | "changed" | "removed" | undefined
}

export interface Board {
  readonly rows: ReadonlyArray<Order>
  /** Newest first. */
  readonly entries: ReadonlyArray<Entry>
  /** Milliseconds from the latest write in the database to its arrival here. */
  readonly delay: number | undefined
}

const capacity = 100

const newestFirst = (one: Order, other: Order): number => other.id - one.id

const byId = (rows: ReadonlyArray<Order>): ReadonlyMap<number, Order> =>
  new Map(rows.map((order) => [order.id, order]))

/** The rows at first, without animations. */
export const begin = (rows: ReadonlyArray<Order>): Board => ({
  rows,
  entries: rows
    .toSorted(newestFirst)
    .slice(0, capacity)
    .map((order) => ({ order, change: undefined })),
  delay: undefined
})

/** The next rows. An order is another object exactly when it changed. */
export const follow = (board: Board, rows: ReadonlyArray<Order>, now: number): Board => {
  const [before, after] = [byId(board.rows), byId(rows)]
  const shown = new Map(board.entries.map((entry) => [entry.order.id, entry]))
  const next = (order: Order): Entry => {
    const entry = shown.get(order.id)
    const last = before.get(order.id)
    if (entry !== undefined && last === order) return entry
    return { order, change: last === undefined ? "added" : last === order ? undefined : "changed" }
  }
  const newest = rows.toSorted(newestFirst).slice(0, capacity)
  const leaving = board.entries
    .filter(({ order }) => !after.has(order.id))
    .map((entry) => (entry.change === "removed" ? entry : removed(entry)))
  const writes = newest
    .filter((order) => before.get(order.id) !== order)
    .map(({ updated_at }) => updated_at.getTime())
  return {
    rows,
    entries: [...newest.map(next), ...leaving].toSorted((one, other) =>
      newestFirst(one.order, other.order)
    ),
    delay: writes.length === 0 ? board.delay : now - Math.max(...writes)
  }
}

const removed = ({ order }: Entry): Entry => ({ order, change: "removed" })

/** Without an order whose animation ended. */
export const forget = (board: Board, id: number): Board => ({
  ...board,
  entries: board.entries.filter(({ change, order }) => order.id !== id || change !== "removed")
})

export const count = (rows: ReadonlyArray<Order>): ReadonlyMap<Status, number> => {
  const counts = new Map<Status, number>(statuses.map((status) => [status, 0]))
  for (const { status } of rows) counts.set(status, counts.get(status)! + 1)
  return counts
}
