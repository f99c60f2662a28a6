import { type Order, type Status, statuses } from "../channels.ts"
import { count } from "./board.ts"

interface FilterProps {
  /** `undefined` until they are here. */
  readonly rows: ReadonlyArray<Order> | undefined
  readonly shown: Status | undefined
  readonly onShow: (status: Status | undefined) => void
}

/** Chooses the orders that come to this page. The page counts those that it has, and no others. */
export const Filter = ({ onShow, rows, shown }: FilterProps) => {
  const counts = rows && count(rows)
  const choice = (status: Status | undefined, orders: number | undefined) => (
    <button
      type="button"
      key={status ?? "all"}
      data-status={status}
      aria-pressed={status === shown}
      onClick={() => onShow(status)}
    >
      <span className="count">{orders}</span> <span>{status ?? "all"}</span>
    </button>
  )
  return (
    <div className="filter" role="group" aria-label="Show orders">
      {choice(undefined, shown === undefined ? rows?.length : undefined)}
      {statuses.map((status) =>
        choice(status, shown === undefined || shown === status ? counts?.get(status) : undefined)
      )}
    </div>
  )
}
