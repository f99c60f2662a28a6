/**
 * The HTTP API of the page, which changes orders. Their rows and every change come over the WebSocket, to
 * each page.
 */
import { Data, Effect, Layer, Schema } from "effect"
import { HttpRouter, HttpServerRequest, HttpServerResponse } from "effect/http"
import { SqlClient } from "effect/sql"
import type { SqlError } from "effect/sql/SqlError"
import { QueryResults, Realtime } from "effect-realtime/server"
import { reportResult, Status } from "./channels.ts"
import { Psql } from "./database.ts"
import { report } from "./reports.ts"

const Text = Schema.Trim.check(
  Schema.isNonEmpty(),
  Schema.isMaxLength(120),
  Schema.isPattern(/^\P{Cc}*$/u)
)
const NewOrder = Schema.Struct({
  customer: Text,
  item: Text,
  amount_cents: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 100_000_000 }))
})
/** An order as PostgreSQL told it when it was deleted. */
const DeletedOrder = Schema.Struct({
  customer: Schema.String,
  item: Schema.String,
  amount_cents: Schema.Int,
  status: Status,
  /** A text, because a Date has fewer digits than the row had. */
  created_at: Schema.String.check(
    Schema.makeFilter((text) => !Number.isNaN(Date.parse(text)) || "must be a time")
  )
})
const NewStatus = Schema.Struct({ status: Status })
const OrderPath = Schema.Struct({
  id: Schema.FiniteFromString.check(
    Schema.isInt(),
    Schema.isBetween({ minimum: 1, maximum: 2_147_483_647 })
  )
})
/** A query id is any text that is valid in a channel name. */
const QueryId = Schema.String.check(
  Schema.makeFilter((id) => reportResult(id).fault?.message ?? true)
)
const ReportRequest = Schema.Struct({ query_id: QueryId })

const reply = (body: unknown, status = 200) => HttpServerResponse.jsonUnsafe(body, { status })

class BadRequest extends Data.TaggedError("BadRequest")<{ readonly message: string }> {}

const badRequest = ({ message }: { readonly message: string }) => new BadRequest({ message })

const bodyOf = <A, I>(schema: Schema.Codec<A, I>) =>
  Effect.gen(function* () {
    const { headers } = yield* HttpServerRequest.HttpServerRequest
    // A page of another site may send a form here, but not JSON.
    if (headers["content-type"]?.startsWith("application/json") !== true) {
      return yield* new BadRequest({ message: "Send JSON, as content-type application/json." })
    }
    return yield* HttpServerRequest.schemaBodyJson(schema).pipe(
      Effect.mapError((error) =>
        badRequest(error._tag === "SchemaError" ? error : { message: "This is not JSON." })
      )
    )
  })

const orderId = HttpRouter.schemaPathParams(OrderPath).pipe(
  Effect.map(({ id }) => id),
  Effect.mapError(badRequest)
)

/** Rows as JSON of PostgreSQL: the same text that the trigger sends. */
const first = (rows: ReadonlyArray<{ readonly row: unknown }>, status = 200) =>
  rows[0] === undefined
    ? reply({ error: "There is no such order." }, 404)
    : reply(rows[0].row, status)

const addOrder = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const order = yield* bodyOf(NewOrder)
  const rows = yield* sql<{ row: unknown }>`
    insert into orders ${sql.insert(order)} returning to_jsonb(orders) as row`
  return first(rows, 201)
})

const changeOrder = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const id = yield* orderId
  const { status } = yield* bodyOf(NewStatus)
  const rows = yield* sql<{ row: unknown }>`
    update orders set status = ${status} where id = ${id} returning to_jsonb(orders) as row`
  return first(rows)
})

const deleteOrder = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const id = yield* orderId
  const rows = yield* sql<{ row: unknown }>`
    delete from orders where id = ${id} returning to_jsonb(orders) as row`
  return first(rows)
})

/** Undoes a delete: the same row with the same id, unless another order has it by now. */
const restoreOrder = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const id = yield* orderId
  const order = yield* bodyOf(DeletedOrder)
  const rows = yield* sql<{ row: unknown }>`
    insert into orders as o (id, customer, item, amount_cents, status, created_at)
    overriding system value
    values (${id}, ${order.customer}, ${order.item}, ${order.amount_cents}, ${order.status},
      ${order.created_at}::timestamptz)
    on conflict (id) do nothing
    returning to_jsonb(o) as row`
  return rows[0] === undefined
    ? reply({ error: `There is an order ${id} again.` }, 409)
    : reply(rows[0].row, 201)
})

/** The cursor of this moment. */
const position = Realtime.snapshot(Effect.void).pipe(
  // The objects are installed, and this is the primary, so these errors are defects.
  Effect.catchTags({ NestedSnapshot: Effect.die, NotInstalled: Effect.die, NotPrimary: Effect.die })
)

/**
 * Answers at once and publishes the result on the channel later. A page that subscribes from the cursor
 * receives the result, even after a reload.
 */
const startReport = Effect.gen(function* () {
  const { query_id } = yield* bodyOf(ReportRequest)
  const channel = reportResult(query_id)
  const { cursor } = yield* position
  yield* QueryResults.run(channel, report)
  return reply({ channel: channel.name, cursor }, 202)
})

const psql = Psql.useSync(({ argument }) => reply({ argument }))

const route = <R>(
  method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE",
  path: `/api/${string}`,
  handler: Effect.Effect<HttpServerResponse.HttpServerResponse, BadRequest | SqlError, R>
) =>
  HttpRouter.add(
    method,
    path,
    Effect.catchTags(handler, {
      BadRequest: ({ message }) => Effect.succeed(reply({ error: message }, 400)),
      SqlError: (error) =>
        Effect.as(
          Effect.logWarning(`${method} ${path}: ${error.message}`),
          reply({ error: "The database does not answer. Try again in a moment." }, 503)
        )
    })
  )

export const layer = Layer.mergeAll(
  route("POST", "/api/orders", addOrder),
  route("PATCH", "/api/orders/:id", changeOrder),
  route("PUT", "/api/orders/:id", restoreOrder),
  route("DELETE", "/api/orders/:id", deleteOrder),
  route("POST", "/api/reports", startReport),
  route("GET", "/api/psql", psql)
)
