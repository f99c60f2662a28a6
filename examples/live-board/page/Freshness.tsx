import type { Status } from "../channels.ts"
import { clock } from "./format.ts"
import type { Link } from "./useLink.ts"
import type { useOrders } from "./useOrders.ts"

const reasons: Readonly<Record<string, string>> = {
  source: "the database has crashed or is another one",
  slow: "this page could not keep up",
  retention: "what this page missed is not kept any more",
  invalid: "a change could not be told in full",
  truncate: "the table was emptied",
  rights: "what this page may see has changed"
}

/** Why changes may be missing, for the error of a value that waits for its next read. */
const because = (error: unknown): string => {
  const reason = (error as { readonly reason?: string } | undefined)?.reason
  return reason === undefined ? "" : ` because ${reasons[reason] ?? reason}`
}

type Orders = Pick<ReturnType<typeof useOrders>, "error" | "status" | "reload">

const sentence = (
  { error, status }: Orders,
  { connection, since }: Link,
  shown?: Status
): string => {
  if (status === "error") {
    return `The orders cannot be read: ${error instanceof Error ? error.message : String(error)}`
  }
  if (status === "loading") return since === undefined ? "Reading the orders" : "No orders read yet"
  if (since !== undefined) {
    const lost = connection.status === "open" ? "database" : "connection"
    return `As of ${clock(since)}, until the ${lost} is back`
  }
  if (status === "stale") return `Changes may be missing${because(error)}: reading the orders again`
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
