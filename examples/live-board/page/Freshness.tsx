import type { Rows } from "effect-realtime/client"
import type { Order, Status } from "../channels.ts"
import { clock } from "./format.ts"
import type { Link } from "./useLink.ts"

const text = (error: unknown): string => (error instanceof Error ? error.message : String(error))

type Orders = Rows.Loaded<Order>

const sentence = (
  { error, status }: Orders,
  { connection, since }: Link,
  shown?: Status
): string => {
  if (status === "error") {
    return `The orders cannot be read: ${text(error)}`
  }
  if (status === "loading") return since === undefined ? "Reading the orders" : "No orders read yet"
  if (since !== undefined) {
    const lost = connection.status === "open" ? "database" : "connection"
    return `As of ${clock(since)}, until the ${lost} is back`
  }
  if (status === "stale") {
    return `Changes may be missing: ${error === undefined ? "reading the orders again" : text(error)}`
  }
  return shown === undefined ? "Up to date" : `Up to date: only ${shown} orders come to this page`
}

interface FreshnessProps {
  readonly orders: Orders
  readonly link: Link
  readonly shown: Status | undefined
  readonly delay: number | undefined
}

/** How far to believe the orders. */
export const Freshness = ({ delay, link, orders, shown }: FreshnessProps) => {
  const showsDelay =
    link.since === undefined &&
    orders.status === "live" &&
    delay !== undefined &&
    delay >= 0 &&
    delay < 10_000
  return (
    <p className="freshness">
      <span role="status">{sentence(orders, link, shown)}</span>
      {showsDelay && <span>, last change here {delay} ms after the write</span>}
      {orders.status === "error" && (
        <button className="inline" type="button" onClick={() => void orders.reload()}>
          Read again
        </button>
      )}
    </p>
  )
}
