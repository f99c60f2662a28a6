import { memo, useState } from "react"
import { type Status, statuses } from "../channels.ts"
import { changeStatus, deleteOrder } from "./api.ts"
import type { Entry } from "./board.ts"
import { money, when } from "./format.ts"
import { useAction } from "./useAction.ts"

/** The next step of an order, and its next status. */
const next: Partial<Record<Status, readonly [verb: string, status: Status]>> = {
  new: ["Pack", "packed"],
  packed: ["Ship", "shipped"],
  shipped: ["Deliver", "delivered"]
}

const Progress = ({ status }: { readonly status: Status }) => (
  <span className="progress" data-status={status}>
    {status}
    <span className="steps" aria-hidden="true">
      {statuses.map((step, index) => (
        <span key={step} data-done={index <= statuses.indexOf(status)} />
      ))}
    </span>
  </span>
)

interface OrderRowProps {
  readonly entry: Entry
}

export const OrderRow = memo(({ entry: { change, order } }: OrderRowProps) => {
  const [gone, setGone] = useState(false)
  const { error, run, running } = useAction()
  const step = next[order.status]
  if (gone) return null
  return (
    <li
      className="row"
      data-order={order.id}
      data-change={change}
      aria-hidden={change === "removed"}
      onAnimationEnd={({ animationName }) => animationName === "leave" && setGone(true)}
    >
      <div className="row-fold">
        <div className="row-cells">
          {/* A new key restarts the animation. */}
          {change !== undefined && <span className="flash" key={order.updated_at.getTime()} />}
          <span className="number">{order.id}</span>
          <span className="customer">{order.customer}</span>
          {error === undefined ? (
            <span className="item">{order.item}</span>
          ) : (
            <span className="item failure" role="alert">
              {error}
            </span>
          )}
          <time className="time" dateTime={order.created_at.toISOString()}>
            {when(order.created_at)}
          </time>
          <span className="amount">{money(order.amount_cents)}</span>
          <Progress status={order.status} />
          <span className="actions">
            {step !== undefined && (
              <button
                type="button"
                className="step"
                disabled={running}
                aria-label={`${step[0]} order ${order.id}`}
                onClick={() => run(() => changeStatus(order.id, step[1]))}
              >
                {step[0]}
              </button>
            )}
            <button
              type="button"
              className="quiet"
              disabled={running}
              aria-label={`Delete order ${order.id}`}
              title="Delete"
              onClick={() => run(() => deleteOrder(order.id))}
            >
              <svg viewBox="0 0 12 12" aria-hidden="true">
                <path d="M2.5 2.5l7 7M9.5 2.5l-7 7" />
              </svg>
            </button>
          </span>
        </div>
      </div>
    </li>
  )
})
