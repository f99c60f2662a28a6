// #region migrate
import { PgInstaller } from "effect-realtime/server"
import { DurableOrders } from "../channels.ts"

/** Run as the owner of the tables, in a migration. It may run again. */
export const migrate = PgInstaller.install({
  roles: { node: "realtime_node", app: "realtime_app" },
  retention: "36 hours",
  watch: [{ channel: DurableOrders }]
})

/** In the app, whose user may not install: fails where something is missing, and says what. */
export const Installed = PgInstaller.layerCheck
// #endregion
