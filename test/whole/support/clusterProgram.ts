/**
 * One node of a cluster in its own process: an Effect app with a door for a live and a durable channel, and
 * for the rows of a table. Between nodes it uses NATS where the test has one, else PostgreSQL. SIGTERM
 * drains it.
 */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { PgClient } from "@effect/sql-pg"
import { Effect, Layer, Metric, Redacted } from "effect"
import { HttpRouter } from "effect/http"
import { NatsBus, NatsFeed, NatsNotificationSource } from "effect-realtime/nats"
import {
  OutboxReader,
  PgNodeBus,
  PgNotificationSource,
  Realtime,
  RealtimeServer
} from "effect-realtime/server"
import { createServer } from "node:http"
import { feedTicks } from "../../../src/server/internal/metrics.ts"
import { random } from "../../server/support/random.ts"
import { BadNetwork } from "./badNetwork.ts"
import { channels } from "./clusterChannels.ts"
import { stepWallClock } from "./wallClock.ts"

/** How a test starts a node. */
export interface Setup {
  readonly name: string
  readonly port: number
  /** The database, behind a hop of the test. */
  readonly databaseUrl: string
  /** The server of NATS, behind a hop of the test. Without it the bus is that of PostgreSQL. */
  readonly nats: string | undefined
  /** Decides which messages of other nodes are lost, doubled or late. */
  readonly seed: number
}

/** What a test orders. */
export type Order =
  /** Whether messages of other nodes are lost. */
  | { readonly order: "network"; readonly bad: boolean }
  /** Sets the wall clock so many milliseconds off. */
  | { readonly order: "clock"; readonly off: number }

/** What a node has done since its start: ticks of the feed by outcome, and messages of other nodes. */
export type Counts = Readonly<
  Record<"fed" | "repaired" | "refused" | "passed" | "lost" | "doubled" | "late", number>
>

/** The first of them says that the node is ready. */
export interface Report {
  readonly counts: Counts
}

const setup = JSON.parse(process.env["NODE_SETUP"]!) as Setup
const quick = { initial: 20, cap: 300, resetAfter: 5000 }
const url = Redacted.make(setup.databaseUrl)
const network = new BadNetwork(random(setup.seed))

process.on("message", (order: Order) => {
  if (order.order === "network") network.bad = order.bad
  else stepWallClock(order.off)
})
// Ends with the test, whatever happens to it.
process.on("disconnect", () => process.exit(1))

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

const ticks = (outcome: string) =>
  Effect.map(Metric.value(Metric.withAttributes(feedTicks, { outcome })), ({ count }) =>
    Number(count)
  )

const report = Effect.gen(function* () {
  const counts: Counts = {
    ...network.counts,
    fed: yield* ticks("fed"),
    repaired: yield* ticks("repaired"),
    refused: yield* ticks("refused")
  }
  process.send?.({ counts } satisfies Report)
})

const Ready = Layer.effectDiscard(
  Effect.gen(function* () {
    const { ready } = yield* RealtimeServer.RealtimeServer
    yield* ready
    yield* report
    yield* Effect.forkScoped(Effect.forever(Effect.andThen(Effect.sleep(200), report)))
  })
)

const Source = PgNotificationSource.layer({
  heartbeatInterval: "500 millis",
  heartbeatTimeout: "500 millis",
  backoff: quick
})

const Reader = OutboxReader.layer({ heartbeatTimeout: "500 millis", backoff: quick })

const overPostgres = Reader.pipe(
  Layer.provideMerge(PgNodeBus.layer({ name: setup.name }).pipe(Layer.provide(network.beneathBus))),
  Layer.provideMerge(Source)
)

const overNats = (servers: string) =>
  NatsNotificationSource.layer.pipe(
    Layer.provide(Source),
    Layer.provideMerge(Reader),
    Layer.provideMerge(Layer.merge(NatsBus.layer({ name: setup.name }), NatsFeed.layer)),
    Layer.provide(
      network.overNats({
        servers,
        startWithout: true,
        connectTimeout: "500 millis",
        heartbeatInterval: "500 millis",
        heartbeatTimeout: "500 millis",
        backoff: quick
      })
    )
  )

const app = <E, R>(between: typeof overPostgres | Layer.Layer<never, E, R>) =>
  Ready.pipe(
    Layer.provideMerge(HttpRouter.serve(Door, { disableListenLog: true })),
    Layer.provide(
      NodeHttpServer.layer(createServer, {
        host: "127.0.0.1",
        port: setup.port,
        gracefulShutdownTimeout: "1 second"
      })
    ),
    Layer.provide(Realtime.layer()),
    Layer.provide(between as typeof overPostgres)
  )

app(setup.nats === undefined ? overPostgres : overNats(setup.nats)).pipe(
  Layer.provide(PgClient.layer({ url, maxConnections: 5 })),
  Layer.launch,
  NodeRuntime.runMain
)
