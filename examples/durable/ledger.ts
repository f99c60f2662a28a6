// #region consumer
import { PgClient } from "@effect/sql-pg"
import { Effect } from "effect"
import { Realtime } from "effect-realtime/server"
import { DurableOrders } from "../channels.ts"

export const ledger = Realtime.consume(DurableOrders, {
  name: "ledger",
  onEvents: Effect.forEach((event) =>
    event._tag === "Gap"
      ? Effect.die("re-read the table here")
      : PgClient.PgClient.use((sql) => sql`insert into ledger values (${event.id})`)
  )
}) // one transaction commits the rows and the cursor: exactly once
// #endregion
