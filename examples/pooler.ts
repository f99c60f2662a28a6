// #region durable
import { Layer } from "effect"
import { layerNone, OutboxReader, Realtime } from "effect-realtime/server"
import { Database } from "./connecting.ts"

/** Install with PgInstaller.install({ wake: "poll" }), or npx effect-realtime sql --wake poll. */
export const Durable = Realtime.layer().pipe(
  Layer.provideMerge([layerNone, OutboxReader.layer({ wake: "poll" })]),
  Layer.provideMerge(Database)
)
// #endregion
