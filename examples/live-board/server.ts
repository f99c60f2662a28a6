/**
 * The live board: every open page shows the changes of the table `orders` in PostgreSQL.
 *
 *   npm start
 *
 * PORT is its port: default 3000, or a free one if 3000 is in use; 0 picks a free one. LISTEN_HOST is the
 * address that it has there, default 127.0.0.1. DATABASE_URL names a PostgreSQL to use instead of the embedded
 * one. NODE_NAME and NATS_URL are for a cluster of several boards.
 */
// Not the whole package, which takes half a second to load.
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Config, Console, Data, Effect, Layer, Logger, Option, Runtime } from "effect"
import { HttpRouter, HttpServer, type HttpServerError } from "effect/http"
import { Channel } from "effect-realtime"
import {
  OutboxReader,
  PgNotificationSource,
  QueryResults,
  Realtime,
  RealtimeServer
} from "effect-realtime/server"
import { createServer } from "node:http"
import * as Api from "./api.ts"
import { Notices, Orders, otherResults, Pages, reportResult } from "./channels.ts"
import * as Database from "./database.ts"
import * as Nodes from "./nodes.ts"
import * as Website from "./website.ts"

const anybody = () => true

/** The page's channels, and those of any other query or table, live. Anybody may do everything here. */
const Door = Layer.unwrap(
  Effect.map(Nodes.name, (name) =>
    RealtimeServer.layer({
      channels: [Orders, Notices, Pages, reportResult, otherResults, Channel.allTableUpdates],
      rules: ({ onPresent, onPublish, onSubscribe }) => [
        onSubscribe(Orders, anybody),
        onSubscribe(Notices, anybody),
        onPublish(Notices, ({ payload }) => payload),
        onSubscribe(Pages, anybody),
        // Each page shows on which node it is, which only the node knows.
        onPresent(Pages, () => (Option.isSome(name) ? { node: name.value } : {})),
        onSubscribe(reportResult, anybody),
        onSubscribe(otherResults, anybody),
        onSubscribe(Channel.allTableUpdates, anybody)
      ],
      // Ctrl-C ends the server within 3 s, even if a sleeping phone does not answer.
      limits: { drainTimeout: "1 second" }
    })
  )
)

class PortTaken extends Data.TaggedError("PortTaken")<{ readonly port: number }> {
  override readonly [Runtime.errorReported] = false
  override get message(): string {
    return `Port ${this.port} is taken. Give PORT another number, or 0 for a free one.`
  }
}

const listen = Effect.fnUntraced(function* (port: number) {
  const host = yield* Config.withDefault(Config.String("LISTEN_HOST"), "127.0.0.1")
  return yield* NodeHttpServer.make(createServer, {
    host,
    port,
    gracefulShutdownTimeout: "1 second"
  }).pipe(Effect.mapError((error) => (isTaken(error) ? new PortTaken({ port }) : error)))
})

const isTaken = ({ cause }: HttpServerError.ServeError) =>
  cause instanceof Error && "code" in cause && cause.code === "EADDRINUSE"

/** Listens on PORT. Without PORT a second board may run, so a port in use is no error. */
const listenSomewhere = Effect.gen(function* () {
  const chosen = yield* Config.option(Config.Int("PORT"))
  if (Option.isSome(chosen)) return yield* listen(chosen.value)
  return yield* listen(3000).pipe(
    Effect.catchTag("PortTaken", () =>
      Effect.andThen(Effect.logWarning("Port 3000 is taken, so this takes a free one."), listen(0))
    )
  )
})

const Server = Layer.merge(
  Layer.effect(HttpServer.HttpServer, listenSomewhere),
  NodeHttpServer.layerHttpServices
)

const App = HttpRouter.serve(Layer.mergeAll(Website.layer, Api.layer, Door), {
  disableListenLog: true,
  disableLogger: true
})

let terminated = false
process.once("SIGTERM", () => {
  terminated = true
})

/** 130 is the exit code for SIGINT. */
const teardown: Runtime.Teardown = (exit, onExit) =>
  Runtime.defaultTeardown(exit, (code) => onExit(code === 130 && terminated ? 143 : code))

/** Prints the two lines with the page and the database. */
const Ready = Layer.effectDiscard(
  Effect.gen(function* () {
    const { address } = yield* HttpServer.HttpServer
    const psql = yield* Database.Psql
    yield* Console.log(`ready ${HttpServer.formatAddress(address)}\ndatabase ${psql.url}`)
  })
)

Ready.pipe(
  Layer.provide(App),
  // Listens after all layers below are built, because earlier requests would find no route.
  Layer.provide(Server),
  Layer.provide(QueryResults.layer),
  Layer.provide(Realtime.layer()),
  Layer.provide(Nodes.source),
  Layer.provide(Layer.provideMerge(OutboxReader.layer(), Nodes.layer)),
  Layer.provide(PgNotificationSource.layer()),
  Layer.provide(Layer.merge(Database.layer, Website.Bundle.layer)),
  Layer.provide(Logger.layer([Logger.withConsoleError(Logger.formatLogFmt)])),
  Layer.launch,
  // Prints a known error as one sentence, and any other error in full.
  Effect.tapError((error) =>
    Runtime.getErrorReported(error) ? Effect.void : Console.error(error.message)
  ),
  NodeRuntime.runMain({ teardown })
)
