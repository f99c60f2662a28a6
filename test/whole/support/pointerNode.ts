/** A node in its own process with durable, volatile and presence channels. It says how late its loop is. */
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
import { monitorEventLoopDelay } from "node:perf_hooks"
import { setupOf } from "../../support/program.ts"
import { channels } from "./pointerChannels.ts"

export interface PointerSetup {
  readonly port: number
  readonly databaseUrl: string
}

/** Milliseconds by which 1 % of the steps of the loop were late since the last report. */
export interface LoopReport {
  readonly late: number
}

const { databaseUrl, port } = setupOf<PointerSetup>()

const resolution = 1
const delay = monitorEventLoopDelay({ resolution })
delay.enable()
process.on("message", () => {
  process.send?.({ late: delay.percentile(99) / 1e6 - resolution } satisfies LoopReport)
  delay.reset()
})

const Ready = Layer.effectDiscard(
  Effect.gen(function* () {
    const { ready } = yield* RealtimeServer.RealtimeServer
    yield* ready
    process.send?.("ready")
  })
)

Ready.pipe(
  Layer.provideMerge(
    HttpRouter.serve(RealtimeServer.layer({ channels, authorize: RealtimeServer.allowAll }), {
      disableListenLog: true
    })
  ),
  Layer.provide(NodeHttpServer.layer(createServer, { host: "127.0.0.1", port })),
  Layer.provide(Realtime.layer()),
  Layer.provide(Layer.merge(PgNotificationSource.layer(), OutboxReader.layer())),
  Layer.provide(PgClient.layer({ url: Redacted.make(databaseUrl), maxConnections: 4 })),
  Layer.launch,
  NodeRuntime.runMain
)
