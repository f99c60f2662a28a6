/**
 * The long query of the example.
 */
import { Effect, Semaphore } from "effect"
import { SqlClient } from "effect/sql"
import type { Report } from "./channels.ts"

type ByStatus = Report["by_status"][number]

/** Limits long queries, so that they do not use the whole pool. */
const turn = Semaphore.makeUnsafe(2)

/** Slow on purpose. */
export const report = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const by_status = yield* sql<ByStatus>`
    select status, count(*)::integer as orders, sum(amount_cents)::float8 as amount_cents
    from orders, pg_sleep(2.5) group by status`
  const sum = (field: "orders" | "amount_cents") =>
    by_status.reduce((total, row) => total + row[field], 0)
  return { orders: sum("orders"), amount_cents: sum("amount_cents"), by_status } satisfies Report
}).pipe(turn.withPermit)
