// #region tables
import * as Schema from "effect/Schema"
import * as Channel from "effect-realtime/Channel"

const Ticket = Schema.Struct({ id: Schema.Int, status: Schema.String, team: Schema.String })
const Message = Schema.Struct({ id: Schema.Int, room_id: Schema.String, text: Schema.String })

/** table_updates_tickets. Pages filter by `status`, and only the server by `team`. */
export const Tickets = Channel.table("tickets", Ticket, {
  key: "id",
  filter: "status",
  boundary: "team"
})

/** `Messages("lobby")` is table_updates_messages:lobby */
export const Messages = Channel.table("messages", Message, { key: "id", by: "room_id" })
// #endregion
