/**
 * The channels of the server and the page: defined once, imported by both.
 */
import * as Schema from "effect/Schema"
import * as Channel from "effect-realtime/Channel"

/** The statuses of an order, from first to last. */
export const statuses = ["new", "packed", "shipped", "delivered"] as const

export const Status = Schema.Literals(statuses)
export type Status = typeof Status.Type

/** A row of the table `orders`, with its column names. */
export const Order = Schema.Struct({
  id: Schema.Int,
  customer: Schema.String,
  item: Schema.String,
  amount_cents: Schema.Int,
  status: Status,
  created_at: Schema.Date,
  /** A trigger sets it at each change. The page computes the latency from it. */
  updated_at: Schema.Date
})
export type Order = typeof Order.Type

/** The table `orders`, on `table_updates_orders`: its rows, then every committed change of one. */
export const Orders = Channel.table("orders", Order, { key: "id", filter: ["status"] })

/** `system_notifications`, where clients may publish. */
export const Notices = Channel.make("system_notifications", Channel.SystemNotification, {
  publish: true
})
export type Notice = typeof Channel.SystemNotification.Type

/** The open pages of the board. The server adds the name of the node on which each is. */
export const Pages = Channel.presence(
  "live_board_pages",
  Schema.Struct({ node: Schema.optionalKey(Schema.String) }),
  { counts: "devices" }
)

/** The result of the long query. */
export const Report = Schema.Struct({
  orders: Schema.Int,
  amount_cents: Schema.Int,
  by_status: Schema.Array(
    Schema.Struct({ status: Status, orders: Schema.Int, amount_cents: Schema.Int })
  )
})
export type Report = typeof Report.Type

/** `query_results_report-${id}`: the page chooses the id. The node keeps the result for the page. */
export const reportResult = Channel.family(
  "query_results_report-",
  Schema.String,
  Channel.QueryResult(Report),
  { delivery: "durable" }
)

/** Any other `query_results_${id}`, live: NOTIFY from psql or another program. */
export const otherResults = Channel.queryResults(Schema.Unknown, { except: ["report-"] })
