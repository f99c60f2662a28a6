// #region durable
import { Layer } from "effect"
import { OutboxReader, Realtime } from "effect-realtime/server"
import { Database } from "./connecting.ts"

/** Install with PgInstaller.install({ wake: "poll" }) or `npx effect-realtime sql --wake poll`. */
export const Durable = Realtime.layerDurable().pipe(
  Layer.provideMerge(OutboxReader.layer({ wake: "poll" })),
  Layer.provideMerge(Database)
)
// #endregion
