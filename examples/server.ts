// #region server
import { NodeHttpServer, NodeRuntime } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { Config, Layer } from "effect"
import { HttpRouter } from "effect/http"
import { PgNotificationSource, Realtime, RealtimeServer } from "effect-realtime/server"
import { createServer } from "node:http"
import { Notices, OrderUpdates, Report } from "./channels.ts"

const channels = [OrderUpdates, Report, Notices]
HttpRouter.serve(RealtimeServer.layer({ channels, authorize: RealtimeServer.allowAll })).pipe(
  Layer.provide(NodeHttpServer.layerConfig(createServer, { port: Config.Int("PORT") })),
  Layer.provide(Realtime.layer()),
  Layer.provide(PgNotificationSource.layer()),
  Layer.provide(PgClient.layerConfig({ url: Config.Redacted("DATABASE_URL") })),
  Layer.launch,
  NodeRuntime.runMain
)
// #endregion
