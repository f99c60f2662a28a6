// #region rows
import { Effect, Stream } from "effect"
import { Realtime } from "effect-realtime/server"
import { Tickets } from "../tables/tables.ts"

export const openTickets = Realtime.rows(Tickets, { where: { status: "open" } }).pipe(
  Stream.runForEach(({ rows, status }) => Effect.log(status, rows.length))
)
// #endregion
