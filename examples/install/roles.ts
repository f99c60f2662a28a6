// #region migrate
import { PgInstaller } from "effect-realtime/server"
import { DurableOrders } from "../channels.ts"

/** Run it as the owner of the tables, in a migration. You may run it again. */
export const migrate = PgInstaller.install({
  roles: { node: "realtime_node", app: "realtime_app" },
  retention: "36 hours",
  watch: [{ channel: DurableOrders }]
})

/** In the app, whose user may not install. Fails with the names of missing objects. */
export const Installed = PgInstaller.layerCheck
// #endregion
