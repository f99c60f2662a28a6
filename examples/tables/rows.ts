// #region rows
import { Effect, Stream } from "effect"
import { Realtime } from "effect-realtime/server"
import { Tickets } from "./tables.ts"

/** Logs the number of open tickets, now and whenever it may have changed. */
export const countOpen = Realtime.rows(Tickets, { where: { status: "open" } }).pipe(
  Stream.filter(({ status }) => status === "live"),
  Stream.runForEach(({ rows }) => Effect.log(`${rows.length} tickets are open`))
)
// #endregion
