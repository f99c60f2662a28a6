/**
 * Long queries that run in the background: started by a request, answered on a channel.
 */
import { Context, Effect, FiberMap, Layer, Schedule, Semaphore } from "effect"
import { Realtime } from "effect-realtime/server"
import { SqlClient } from "effect/sql"
import { type Report, reportResult } from "./channels.ts"

type ByStatus = Report["by_status"][number]

/** Takes its time on purpose. */
const compute = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const by_status = yield* sql<ByStatus>`
    select status, count(*)::integer as orders, sum(amount_cents)::float8 as amount_cents
    from orders, pg_sleep(2.5) group by status`
  const sum = (field: "orders" | "amount_cents") =>
    by_status.reduce((total, row) => total + row[field], 0)
  return { orders: sum("orders"), amount_cents: sum("amount_cents"), by_status } satisfies Report
})

export class Reports extends Context.Service<
  Reports,
  {
    /** Starts the report of this id, unless it is running. */
    readonly start: (queryId: string) => Effect.Effect<void>
  }
>()("live-board/Reports") {
  static readonly layer = Layer.effect(
    Reports,
    Effect.gen(function* () {
      // The reports belong to the app, not to the requests that started them, and end with it.
      const running = yield* FiberMap.make<string, void, never>()
      // They must not take the whole pool.
      const turn = yield* Semaphore.make(2)
      const context = yield* Effect.context<Realtime | SqlClient.SqlClient>()

      const run = Effect.fnUntraced(function* (queryId: string) {
        const result = yield* turn.withPermit(compute).pipe(
          Effect.map((data) => ({ status: "completed" as const, data })),
          Effect.tapError((error) => Effect.logWarning(`Report ${queryId} failed`, error)),
          Effect.orElseSucceed(() => ({
            status: "error" as const,
            error: "The query failed. Try again."
          }))
        )
        // Somebody is waiting: a database that restarts in this moment is no reason to say nothing.
        yield* Realtime.publish(reportResult(queryId), result).pipe(
          Effect.retry({
            schedule: Schedule.spaced("1 second"),
            times: 20,
            while: (error) => error._tag === "SourceError"
          }),
          Effect.catch((error) => Effect.logError(`Report ${queryId} was not published`, error))
        )
      })

      return Reports.of({
        start: (queryId) =>
          FiberMap.run(running, queryId, Effect.provide(run(queryId), context), {
            onlyIfMissing: true
          })
      })
    })
  )
}
