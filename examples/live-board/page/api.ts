/**
 * The page's side of `../api.ts`.
 */
import * as Schema from "effect/Schema"
import type { Order, Status } from "../channels.ts"

const request = async (
  method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE",
  path: string,
  body?: unknown
): Promise<unknown> => {
  const response = await fetch(`/api/${path}`, {
    method,
    ...(body === undefined
      ? {}
      : { body: JSON.stringify(body), headers: { "content-type": "application/json" } })
  }).catch(() => {
    throw new Error("The server cannot be reached.")
  })
  const answer: unknown = await response.json()
  if (response.ok) return answer
  const { error } = answer as { readonly error?: string }
  throw new Error(error ?? `The server answered ${response.status}.`)
}

export const addOrder = (order: Pick<Order, "customer" | "item" | "amount_cents">) =>
  request("POST", "orders", order)

export const changeStatus = (id: number, status: Status) =>
  request("PATCH", `orders/${id}`, { status })

/** The row as PostgreSQL told it, with what the page does not read. */
export interface DeletedOrder {
  readonly id: number
  readonly customer: string
}

export const deleteOrder = async (id: number) =>
  (await request("DELETE", `orders/${id}`)) as DeletedOrder

/** Undoes a delete. */
export const restoreOrder = (order: DeletedOrder) => request("PUT", `orders/${order.id}`, order)

const decodeReportReply = Schema.decodeUnknownSync(Schema.Struct({ cursor: Schema.String }))

/** Returns the cursor before the result. */
export const startReport = async (queryId: string) =>
  decodeReportReply(await request("POST", "reports", { query_id: queryId })).cursor

export const fetchPsql = async () => {
  const { argument } = (await request("GET", "psql")) as { readonly argument: string }
  return argument
}
