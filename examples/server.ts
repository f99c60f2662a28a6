// #region server
import { NodeHttpServer, NodeRuntime } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { Config, Layer } from "effect"
import { HttpRouter } from "effect/http"
import {
  OutboxReader,
  PgNotificationSource,
  Realtime,
  RealtimeServer
} from "effect-realtime/server"
import { createServer } from "node:http"
import { Notices, Report } from "./channels.ts"
import { Orders } from "./orders.ts"

const channels = [Orders, Report, Notices]
const address = Config.all({ host: Config.succeed("127.0.0.1"), port: Config.Int("PORT") })
const door = RealtimeServer.layer({ channels, authorize: RealtimeServer.allowAll })
HttpRouter.serve(door, { disableLogger: true }).pipe(
  Layer.provide(NodeHttpServer.layerConfig(createServer, address)),
  Layer.provide(Realtime.layer()),
  Layer.provide([PgNotificationSource.layer(), OutboxReader.layer()]),
  Layer.provide(PgClient.layerConfig({ url: Config.Redacted("DATABASE_URL") })),
  Layer.launch,
  NodeRuntime.runMain
)
// #endregion
