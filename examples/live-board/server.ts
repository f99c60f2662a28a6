/**
 * The live board: what happens to the table `orders` in PostgreSQL happens in every open page.
 *
 *   npm start
 *
 * PORT is where it listens (3000; 0 picks a free port), DATABASE_URL a PostgreSQL to use instead of
 * the one it brings.
 */
// Not from the whole package, which takes half a second to load.
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Config, Console, Effect, Layer, Logger } from "effect"
import { HttpRouter, HttpServer } from "effect/http"
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
  limits: { drain: "1 second" }
})

const Server = NodeHttpServer.layerConfig(createServer, {
  host: Config.succeed("127.0.0.1"),
  port: Config.Int("PORT").pipe(Config.withDefault(3000)),
  gracefulShutdownTimeout: Config.succeed("1 second")
})

const App = HttpRouter.serve(Layer.mergeAll(Website.layer, Api.layer, Door), {
  disableListenLog: true,
  disableLogger: true
})

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
  NodeRuntime.runMain
)
