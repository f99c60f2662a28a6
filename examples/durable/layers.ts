// #region layers
import { PgClient } from "@effect/sql-pg"
import { Config, Layer } from "effect"
import { OutboxReader, PgInstaller, PgNotificationSource, Realtime } from "effect-realtime/server"
import { DurableOrders } from "../channels.ts"

export const Durable = Realtime.layer().pipe(
  Layer.provideMerge([PgNotificationSource.layer(), OutboxReader.layer()]),
  Layer.provide(PgInstaller.layer({ watch: [{ channel: DurableOrders }] })),
  Layer.provideMerge(PgClient.layerConfig({ url: Config.Redacted("DATABASE_URL") }))
)
// #endregion
