import { type RefObject, useEffect, useRef, useState } from "react"
import { type DeletedOrder, restoreOrder } from "./api.ts"
import { useAction } from "./useAction.ts"

interface UndoProps {
  /** The order that this page deleted last. */
  readonly order: DeletedOrder | undefined
  /** The order is back, or may stay deleted. */
  readonly onOver: (order: DeletedOrder) => void
  /** Where the focus goes when this bar closes. */
  readonly before: RefObject<HTMLElement | null>
}

/** Takes back a delete, until it is dismissed. */
export const Undo = ({ before, onOver, order }: UndoProps) => {
  const undoing = useAction()
  const [tried, setTried] = useState<DeletedOrder>()
  const error = tried === order ? undoing.error : undefined
  const button = useRef<HTMLButtonElement>(null)
  useEffect(() => {
    if (order === undefined) return
    const focused = document.activeElement
    // The focus was on the row. It stays where it is if the user has moved on.
    if (focused === document.body || focused?.closest(".rows") !== null) {
      button.current?.focus({ preventScroll: true })
    }
  }, [order])
  const close = (order: DeletedOrder) => {
    before.current?.focus({ preventScroll: true })
    onOver(order)
  }
  const undo = (order: DeletedOrder) => {
    setTried(order)
    undoing.run(() => restoreOrder(order).then(() => close(order)))
  }
  return (
    <div className="undo">
      <p role="status" className={error === undefined ? undefined : "failure"}>
        {order !== undefined &&
          (error === undefined
            ? `Deleted order ${order.id}, ${order.customer}`
            : `The delete of order ${order.id} is not undone. ${error}`)}
      </p>
      {order !== undefined && (
        <>
          <button
            type="button"
            ref={button}
            aria-disabled={undoing.running}
            onClick={() => undo(order)}
          >
            {error === undefined ? "Undo" : "Try again"}
          </button>
          <button
            type="button"
            className="quiet"
            aria-label="Dismiss"
            title="Dismiss"
            onClick={() => close(order)}
          >
            <svg viewBox="0 0 12 12" aria-hidden="true">
              <path d="M2.5 2.5l7 7M9.5 2.5l-7 7" />
            </svg>
          </button>
        </>
      )}
    </div>
  )
}
