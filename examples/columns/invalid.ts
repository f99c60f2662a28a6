// #region invalid
import { PgClient } from "@effect/sql-pg"
import { Effect } from "effect"
import { Realtime } from "effect-realtime/server"
import { Payments } from "./columns.ts"

export const bookkeeper = Realtime.consume(Payments, {
  name: "bookkeeper",
  onEvents: Effect.forEach((event) =>
    PgClient.PgClient.use((sql) => {
      if (event._tag === "Event") return sql`insert into booked values (${event.id})`
      const { cursor, invalid, reason } = event // stored for a person to read
      return sql`insert into unread values (${cursor}, ${reason}, ${JSON.stringify(invalid ?? null)})`
    })
  )
})
// #endregion
