// #region install
import { PgInstaller } from "effect-realtime/server"
import { Messages, Tickets } from "./tables.ts"

export const Installed = PgInstaller.layer({
  watch: [Tickets, { channel: Messages, level: "statement" }]
})
// #endregion
