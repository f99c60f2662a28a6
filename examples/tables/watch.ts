// #region watch
import * as Schema from "effect/Schema"
import * as Channel from "effect-realtime/Channel"
import { PgInstaller } from "effect-realtime/server"
import { DurableOrders } from "../channels.ts"

export const Users = Channel.tableUpdates(
  "users",
  Schema.Struct({ id: Schema.Int, name: Schema.String }),
  { delivery: "durable" }
)

export const Watches = PgInstaller.layer({
  watch: [
    { channel: DurableOrders },
    // Only these columns leave the database. An UPDATE of another one sends no event.
    { channel: Users, columns: ["id", "name"], old: true, when: { insert: "not new.hidden" } }
  ]
})
// #endregion
