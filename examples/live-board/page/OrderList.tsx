import type { Rows } from "effect-realtime/client"
import { useCallback, useRef, useState } from "react"
import type { Order, Status } from "../channels.ts"
import { addOrder, type DeletedOrder } from "./api.ts"
import { Filter } from "./Filter.tsx"
import { Freshness } from "./Freshness.tsx"
import { OrderRow } from "./OrderRow.tsx"
import { randomOrder } from "./randomOrder.ts"
import { Undo } from "./Undo.tsx"
import { useAction } from "./useAction.ts"
import { useBoard } from "./useBoard.ts"
import { useFocusKept } from "./useFocusKept.ts"
import type { Link } from "./useLink.ts"

interface EmptyProps {
  readonly shown: Status | undefined
  readonly onAdd: () => void
  readonly onShowAll: () => void
}

const Empty = ({ onAdd, onShowAll, shown }: EmptyProps) => {
  const ref = useRef<HTMLDivElement>(null)
  useFocusKept(ref)
  return (
    <div className="empty" ref={ref}>
      {shown === undefined ? (
        <>
          <p>No orders yet</p>
          <button type="button" className="primary" onClick={onAdd}>
            Add the first order
          </button>
        </>
      ) : (
        <>
          <p>No {shown} orders now</p>
          <button type="button" onClick={onShowAll}>
            Show all orders
          </button>
        </>
      )}
    </div>
  )
}

interface OrderListProps {
  readonly orders: Rows.Loaded<Order>
  readonly link: Link
  readonly shown: Status | undefined
  readonly onShow: (status: Status | undefined) => void
}

export const OrderList = ({ link, onShow, orders, shown }: OrderListProps) => {
  const { rows, status } = orders
  const isLoaded = status !== "loading"
  // The rows of the view before stay for the moment until these are here, unless that is no moment.
  const view = isLoaded ? (shown ?? "all") : link.since === undefined ? undefined : "nothing"
  const [board, leave] = useBoard(rows, view)
  const adding = useAction()
  const add = () => adding.run(() => addOrder(randomOrder()))
  const [deleted, setDeleted] = useState<ReadonlyArray<DeletedOrder>>([])
  const remember = useCallback(
    (order: DeletedOrder) => setDeleted((deleted) => [...deleted, order]),
    []
  )
  const heading = useRef<HTMLHeadingElement>(null)
  const last = deleted.at(-1)
  const hidden = rows.length - board.entries.filter(({ change }) => change !== "removed").length
  return (
    <section className="panel orders" aria-labelledby="orders" data-live={link.since === undefined}>
      <header className="panel-head">
        <div>
          <h2 id="orders" ref={heading} tabIndex={-1}>
            Orders
          </h2>
          {adding.error === undefined ? (
            <Freshness orders={orders} link={link} shown={shown} delay={board.delay} />
          ) : (
            <p className="freshness failure" role="alert">
              {adding.error}
            </p>
          )}
        </div>
        <button type="button" className="primary" aria-disabled={adding.running} onClick={add}>
          Add an order
        </button>
      </header>
      <Filter rows={isLoaded ? rows : undefined} shown={shown} onShow={onShow} />
      {isLoaded && board.entries.length === 0 && (
        <Empty shown={shown} onAdd={add} onShowAll={() => onShow(undefined)} />
      )}
      <ol className="rows" aria-busy={!isLoaded}>
        {board.entries.map((entry) => (
          <OrderRow key={entry.order.id} entry={entry} onDeleted={remember} onLeave={leave} />
        ))}
      </ol>
      {hidden > 0 && <p className="more">and {hidden} older orders</p>}
      <Undo
        order={last}
        before={heading}
        onOver={(order) => setDeleted((deleted) => deleted.filter((each) => each !== order))}
      />
    </section>
  )
}
