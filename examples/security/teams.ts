/** A table of which each user sees the rows of its teams. */
// #region tickets
import * as Schema from "effect/Schema"
import * as Channel from "effect-realtime/Channel"

const Ticket = Schema.Struct({ id: Schema.Int, status: Schema.String, team: Schema.String })

/** Pages filter by `status`. Only the server filters by `team`. */
export const Tickets = Channel.table("tickets", Ticket, {
  key: "id",
  filter: "status",
  boundary: "team"
})
// #endregion
