/**
 * What the server and the page say to each other: defined once, imported by both.
 */
import * as Schema from "effect/Schema"
import { Channel } from "effect-realtime"

/** An order goes from the first of these to the last. */
export const statuses = ["new", "packed", "shipped", "delivered"] as const

export const Status = Schema.Literals(statuses)
export type Status = typeof Status.Type

/** A row of the table `orders`, in the words of the database. */
export const Order = Schema.Struct({
  id: Schema.Int,
  customer: Schema.String,
  item: Schema.String,
  amount_cents: Schema.Int,
  status: Status,
  created_at: Schema.Date,
  /** Set by a trigger at each change: the page tells how long that took to arrive. */
  updated_at: Schema.Date
})
export type Order = typeof Order.Type

/** `table_updates_orders`: every committed change of a row, kept for a day, so it resumes exactly. */
export const OrderUpdates = Channel.tableUpdates("orders", Order, { delivery: "durable" })

/** `system_notifications`, with the right for clients to publish. */
export const Notices = Channel.make("system_notifications", Channel.SystemNotification, {
  publish: true
})
export type Notice = typeof Channel.SystemNotification.Type

/** What the long query finds out. */
export const Report = Schema.Struct({
  orders: Schema.Int,
  amount_cents: Schema.Int,
  by_status: Schema.Array(
    Schema.Struct({ status: Status, orders: Schema.Int, amount_cents: Schema.Int })
  )
})
export type Report = typeof Report.Type

/** `query_results_report-${id}`: the page chooses the id; the answer is kept while the page is away. */
export const reportResult = Channel.family(
  "query_results_report-",
  Schema.String,
  Channel.QueryResult(Report),
  { delivery: "durable" }
)

/** Any other `query_results_${id}`, live: what psql or another program tells by NOTIFY. */
export const otherResults = Channel.queryResults(Schema.Unknown, { except: ["report-"] })
