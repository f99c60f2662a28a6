/**
 * One node of a cluster in its own process: an Effect app with a door for a live and a durable channel, and
 * for the rows of a table. SIGTERM drains it.
 */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { PgClient } from "@effect/sql-pg"
import { Effect, Layer, Redacted } from "effect"
import { HttpRouter } from "effect/http"
import {
  OutboxReader,
  PgNotificationSource,
  Realtime,
  RealtimeServer
} from "effect-realtime/server"
import { createServer } from "node:http"
import { channels } from "./clusterChannels.ts"

/** How a test starts a node. */
export interface Setup {
  readonly name: string
  readonly port: number
  /** The database, behind a hop of the test. */
  readonly databaseUrl: string
}

const setup = JSON.parse(process.env["NODE_SETUP"]!) as Setup
const quick = { initial: 20, cap: 300, resetAfter: 5000 }
const url = Redacted.make(setup.databaseUrl)

const Door = RealtimeServer.layer({
  channels,
  authorize: RealtimeServer.allowAll,
  limits: {
    pingInterval: "1 second",
    pingTimeout: "1 second",
    drainTimeout: "500 millis",
    maxSessionsPerAddress: 1000
  }
})

const Ready = Layer.effectDiscard(
  Effect.flatMap(RealtimeServer.RealtimeServer, ({ ready }) =>
    Effect.andThen(
      ready,
      Effect.sync(() => process.send?.("ready"))
    )
  )
)

// Ends with the test, whatever happens to it.
process.on("disconnect", () => process.exit(1))

Ready.pipe(
  Layer.provideMerge(HttpRouter.serve(Layer.mergeAll(Door), { disableListenLog: true })),
  Layer.provide(
    NodeHttpServer.layer(createServer, {
      host: "127.0.0.1",
      port: setup.port,
      gracefulShutdownTimeout: "1 second"
    })
  ),
  Layer.provide(Realtime.layer()),
  Layer.provide(
    Layer.merge(
      PgNotificationSource.layer({
        heartbeatInterval: "500 millis",
        heartbeatTimeout: "500 millis",
        backoff: quick
      }),
      OutboxReader.layer({ heartbeatTimeout: "500 millis", backoff: quick })
    )
  ),
  Layer.provide(PgClient.layer({ url, maxConnections: 5 })),
  Layer.launch,
  NodeRuntime.runMain
)
