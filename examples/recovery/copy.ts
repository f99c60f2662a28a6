// #region copy
import { PgClient } from "@effect/sql-pg"
import { Effect } from "effect"
import { Realtime } from "effect-realtime/server"
import { DurableOrders, type Order } from "../channels.ts"

/** A copy of the table for another service, such as a search index. A gap makes it read again. */
export const copy = Realtime.consume(DurableOrders, {
  name: "copy",
  start: "oldest",
  onEvents: Effect.forEach((event) =>
    event._tag === "Gap" ? readAgain : save(event.payload.operation, event.payload.data)
  )
})

const readAgain = PgClient.PgClient.use((sql) =>
  Effect.andThen(
    sql`delete from copies`,
    sql`insert into copies select id, customer, status from orders`
  )
)

/** Writes the whole row, so an event that the copy already contains changes nothing. */
const save = (operation: "INSERT" | "UPDATE" | "DELETE", row: typeof Order.Type) =>
  PgClient.PgClient.use((sql) =>
    operation === "DELETE"
      ? sql`delete from copies where id = ${row.id}`
      : sql`insert into copies ${sql.insert(row)}
          on conflict (id) do update set customer = excluded.customer, status = excluded.status`
  )
// #endregion
