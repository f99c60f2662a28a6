/**
 * The live board: what happens to the table `orders` in PostgreSQL happens in every open page.
 *
 *   npm start
 *
 * PORT is where it listens (3000, or a free port where that is taken; 0 picks a free one), DATABASE_URL
 * a PostgreSQL to use instead of the one it brings.
 */
// Not from the whole package, which takes half a second to load.
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
import { Notices, OrderUpdates, otherResults, reportResult } from "./channels.ts"
import * as Database from "./database.ts"
import * as Website from "./website.ts"

/** The page's own channels, and any other query's or table's, live. */
const Door = RealtimeServer.layer({
  channels: [OrderUpdates, Notices, reportResult, otherResults, Channel.allTableUpdates],
  authorize: RealtimeServer.allowAll,
  // Ctrl-C ends within 3 s, also when a sleeping phone does not answer.
  limits: { drainTimeout: "1 second" }
})

class PortTaken extends Data.TaggedError("PortTaken")<{ readonly port: number }> {
  override readonly [Runtime.errorReported] = false
  override get message(): string {
    return `Port ${this.port} is taken. Give PORT another number, or 0 for a free one.`
  }
}

const listen = (port: number) =>
  NodeHttpServer.make(createServer, {
    host: "127.0.0.1",
    port,
    gracefulShutdownTimeout: "1 second"
  }).pipe(Effect.mapError((error) => (isTaken(error) ? new PortTaken({ port }) : error)))

const isTaken = ({ cause }: HttpServerError.ServeError) =>
  cause instanceof Error && "code" in cause && cause.code === "EADDRINUSE"

/** Where PORT says. Where it says nothing, there may be a second board. */
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

/** 130 is for SIGINT. */
const teardown: Runtime.Teardown = (exit, onExit) =>
  Runtime.defaultTeardown(exit, (code) => onExit(code === 130 && terminated ? 143 : code))

/** The two lines that say where everything is. */
const Ready = Layer.effectDiscard(
  Effect.gen(function* () {
    const { address } = yield* HttpServer.HttpServer
    const psql = yield* Database.Psql
    yield* Console.log(`ready ${HttpServer.formatAddress(address)}\ndatabase ${psql.url}`)
  })
)

Ready.pipe(
  Layer.provide(App),
  // Listens when all below is there, because nobody answers what comes before there are routes.
  Layer.provide(Server),
  Layer.provide(QueryResults.layer),
  Layer.provide(Realtime.layer()),
  Layer.provide(Layer.merge(PgNotificationSource.layer(), OutboxReader.layer())),
  Layer.provide(Layer.merge(Database.layer, Website.Bundle.layer)),
  Layer.provide(Logger.layer([Logger.withConsoleError(Logger.formatLogFmt)])),
  Layer.launch,
  // What has a cure of its own is told in a sentence, and everything else with all there is.
  Effect.tapError((error) =>
    Runtime.getErrorReported(error) ? Effect.void : Console.error(error.message)
  ),
  NodeRuntime.runMain({ teardown })
)
