/** Definitions of tables, as an application exports them. */
import * as Schema from "effect/Schema"
import * as Channel from "../../../src/Channel.ts"

export const Messages = Channel.table(
  "messages",
  Schema.Struct({ id: Schema.Int, room: Schema.String }),
  { key: "id", by: "room" }
)

/** A route is no other table. */
export const lobby = Messages("lobby")

export const Orders = Channel.table(
  "orders",
  Schema.Struct({ id: Schema.Int, status: Schema.String }),
  { key: "id", filter: "status" }
)

/** What else a module exports. */
export const Notices = Channel.systemNotifications
