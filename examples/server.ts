// #region server
import { NodeHttpServer, NodeRuntime } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { Config, Layer } from "effect"
import { HttpRouter } from "effect/http"
import { PgNotificationSource, Realtime, RealtimeServer } from "effect-realtime/server"
import { createServer } from "node:http"
import { Notices, OrderUpdates, Report } from "./channels.ts"

const Door = RealtimeServer.layer({
  channels: [OrderUpdates, Report, Notices],
  authorize: RealtimeServer.allowAll
})

HttpRouter.serve(Door).pipe(
  Layer.provide(NodeHttpServer.layerConfig(createServer, { port: Config.Port("PORT") })),
  Layer.provide(Realtime.layer()),
  Layer.provide(PgNotificationSource.layer()),
  Layer.provide(PgClient.layerConfig({ url: Config.Redacted("DATABASE_URL") })),
  Layer.launch,
  NodeRuntime.runMain
)
// #endregion
