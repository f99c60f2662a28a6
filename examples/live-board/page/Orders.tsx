import { useConnection, useSource } from "effect-realtime/react"
import { statuses } from "../channels.ts"
import { addOrder } from "./api.ts"
import { type Board, count, sorted } from "./board.ts"
import { clock } from "./format.ts"
import { OrderRow } from "./OrderRow.tsx"
import { randomOrder } from "./randomOrder.ts"
import { useAction } from "./useAction.ts"
import { useOrders } from "./useOrders.ts"

const reasons: Readonly<Record<string, string>> = {
  source: "the database has crashed or is another one",
  slow: "this page could not keep up",
  retention: "what this page missed is not kept any more",
  invalid: "a change could not be told in full",
  truncate: "the table was emptied"
}

interface FreshnessProps {
  readonly board: Board
  readonly stale: boolean
}

const Freshness = ({ board, stale }: FreshnessProps) => {
  const { caughtUp, delay, loaded } = board
  const connection = useConnection()
  const source = useSource()
  const live = connection.status === "open" && source === "up"
  const text = !loaded
    ? "Reading the orders"
    : !live
      ? "As last seen: what changes now comes later"
      : stale
        ? "Something may be missing: reading the orders again"
        : caughtUp !== undefined
          ? `Caught up after a gap at ${clock(caughtUp.at)}: ${reasons[caughtUp.reason] ?? caughtUp.reason}`
          : "Up to date"
  const showsDelay = live && delay !== undefined && delay >= 0 && delay < 10_000
  return (
    <p className="freshness">
      <span role="status">{text}</span>
      {showsDelay && <span>, last change here {delay} ms after the write</span>}
    </p>
  )
}

export const Orders = () => {
  const { status, value: board } = useOrders()
  const adding = useAction()
  const counts = count(board)
  return (
    <section className="panel orders" aria-labelledby="orders">
      <header className="panel-head">
        <div>
          <h2 id="orders">Orders</h2>
          {adding.error === undefined ? (
            <Freshness board={board} stale={status === "stale"} />
          ) : (
            <p className="freshness failure" role="alert">
              {adding.error}
            </p>
          )}
        </div>
        <button
          type="button"
          className="primary"
          disabled={adding.running}
          onClick={() => adding.run(() => addOrder(randomOrder()))}
        >
          Add an order
        </button>
      </header>
      <dl className="counts">
        {statuses.map((status) => (
          <div key={status} data-status={status}>
            <dt>{status}</dt>
            <dd>{counts.get(status)}</dd>
          </div>
        ))}
      </dl>
      <ol className="rows" aria-busy={!board.loaded}>
        {sorted(board).map((entry) => (
          <OrderRow key={entry.order.id} entry={entry} />
        ))}
      </ol>
    </section>
  )
}
