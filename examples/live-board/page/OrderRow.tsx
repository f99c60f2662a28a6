import { memo, useRef } from "react"
import { type Status, statuses } from "../channels.ts"
import { changeStatus, type DeletedOrder, deleteOrder } from "./api.ts"
import type { Entry } from "./board.ts"
import { money, when } from "./format.ts"
import { type Action, useAction } from "./useAction.ts"
import { useFocusKept } from "./useFocusKept.ts"

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

interface StepProps {
  readonly id: number
  readonly step: readonly [verb: string, status: Status]
  readonly action: Action
}

const Step = ({ action, id, step: [verb, status] }: StepProps) => {
  const button = useRef<HTMLButtonElement>(null)
  useFocusKept(button)
  return (
    <button
      type="button"
      className="step"
      ref={button}
      aria-disabled={action.running}
      aria-label={`${verb} order ${id}`}
      onClick={() => action.run(() => changeStatus(id, status))}
    >
      {verb}
    </button>
  )
}

interface OrderRowProps {
  readonly entry: Entry
  readonly onDeleted: (order: DeletedOrder) => void
  /** The animation of a removed order ended. */
  readonly onLeave: (id: number) => void
}

export const OrderRow = memo(({ entry: { change, order }, onDeleted, onLeave }: OrderRowProps) => {
  const row = useRef<HTMLLIElement>(null)
  useFocusKept(row)
  const action = useAction()
  const step = next[order.status]
  return (
    <li
      className="row"
      ref={row}
      data-order={order.id}
      data-change={change}
      onAnimationEnd={({ animationName }) => animationName === "leave" && onLeave(order.id)}
    >
      <div className="row-fold">
        <div className="row-cells">
          {/* A new key restarts the animation. */}
          {change !== undefined && <span className="flash" key={order.updated_at.getTime()} />}
          <span className="number">{order.id}</span>
          <span className="customer">{order.customer}</span>
          {action.error === undefined ? (
            <span className="item">{order.item}</span>
          ) : (
            <span className="item failure" role="alert">
              {action.error}
            </span>
          )}
          <time className="time" dateTime={order.created_at.toISOString()}>
            {when(order.created_at)}
          </time>
          <span className="amount">{money(order.amount_cents)}</span>
          <Progress status={order.status} />
          <span className="actions">
            {step !== undefined && <Step id={order.id} step={step} action={action} />}
            <button
              type="button"
              className="quiet"
              aria-disabled={action.running}
              aria-label={`Delete order ${order.id}`}
              title="Delete"
              onClick={() => action.run(async () => onDeleted(await deleteOrder(order.id)))}
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
