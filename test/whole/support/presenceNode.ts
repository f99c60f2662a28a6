/**
 * One node with a presence channel in its own process, over the bus of PostgreSQL or of NATS. Its bus loses,
 * doubles and delays what arrives. The node is a member itself: its program is here.
 */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { PgClient } from "@effect/sql-pg"
import { Effect, Layer, Redacted } from "effect"
import { HttpRouter } from "effect/http"
import { NatsBus, NatsConnection } from "effect-realtime/nats"
import {
  type NodeBus,
  NotificationSource,
  PgNodeBus,
  PgNotificationSource,
  Realtime,
  RealtimeServer
} from "effect-realtime/server"
import { createServer } from "node:http"
import { isBusChannel } from "../../../src/server/internal/sql/schemaName.ts"
import { setupOf } from "../../support/program.ts"
import { random } from "../../server/support/random.ts"
import { Room } from "./presenceChannels.ts"
import { stepWallClock } from "./wallClock.ts"

/** What the bus of a node does with what arrives. */
interface BusFaults {
  /** Probabilities. */
  readonly lost: number
  readonly doubled: number
  /** The longest delay, in milliseconds. */
  readonly delay: number
}

export interface NodeSetup {
  readonly index: number
  readonly port: number
  /** The database, behind a hop of the test. */
  readonly databaseUrl: string
  /** The NATS server, behind a hop of the test; without one the bus is that of PostgreSQL. */
  readonly nats?: string | undefined
  /** Pings each second, a slack of 1 s and a grace of 2 s, or the defaults. */
  readonly quick: boolean
  readonly faults: BusFaults
  readonly seed: number
}

/** What a test orders: it sets the wall clock of the node so many milliseconds off. */
export interface ClockOrder {
  readonly off: number
}

const setup = setupOf<NodeSetup>()
process.on("message", ({ off }: ClockOrder) => stepWallClock(off))
const name = `node ${setup.index}`
const dice = random(setup.seed)
const { faults } = setup

const faulty = (deliver: () => void): void => {
  for (let copies = dice.chance(faults.doubled) ? 2 : 1; copies > 0; copies--) {
    if (dice.chance(faults.lost)) continue
    setTimeout(deliver, dice.int(faults.delay))
  }
}

const backoff = { initial: 20, cap: 300, resetAfter: 5000 }

const overPostgres = PgNodeBus.layer({ name }).pipe(
  Layer.provide(
    Layer.effect(
      NotificationSource.NotificationSource,
      Effect.map(
        PgNotificationSource.make({
          heartbeatInterval: "500 millis",
          heartbeatTimeout: "500 millis",
          backoff
        }),
        (source) => ({
          ...source,
          listen: (channel, listener) =>
            source.listen(
              channel,
              isBusChannel(channel)
                ? (heard) =>
                    typeof heard === "string" ? faulty(() => listener(heard)) : listener(heard)
                : listener
            )
        })
      )
    )
  )
)

const overNats = (servers: string) =>
  NatsBus.layer({ name }).pipe(
    Layer.provide(
      Layer.effect(
        NatsConnection.NatsConnection,
        Effect.map(
          NatsConnection.make({
            servers,
            heartbeatInterval: "500 millis",
            heartbeatTimeout: "500 millis",
            backoff
          }),
          (connection) => ({
            ...connection,
            subscribe: (subject, hear) =>
              connection.subscribe(subject, (data, from) => {
                const copy = data.slice()
                faulty(() => hear(copy, from))
              })
          })
        )
      )
    )
  )

const Bus: Layer.Layer<NodeBus.NodeBus, unknown, PgClient.PgClient> =
  setup.nats === undefined ? overPostgres : overNats(setup.nats)

const Door = RealtimeServer.layer({
  channels: [Room],
  authenticate: ({ token }) => Effect.succeed({ identity: token! }),
  authorize: RealtimeServer.allowAll,
  limits: {
    ...(setup.quick && { pingInterval: "1 second", pingTimeout: "1 second" }),
    drainTimeout: "500 millis"
  }
})

const Ready = Layer.effectDiscard(
  Effect.gen(function* () {
    const { ready } = yield* RealtimeServer.RealtimeServer
    yield* ready
    yield* Realtime.present(Room, { name: `program of ${name}`, n: setup.index })
    process.send?.("ready")
  })
)

Ready.pipe(
  Layer.provideMerge(HttpRouter.serve(Door, { disableListenLog: true })),
  Layer.provide(
    NodeHttpServer.layer(createServer, {
      host: "127.0.0.1",
      port: setup.port,
      gracefulShutdownTimeout: "1 second"
    })
  ),
  Layer.provide(Realtime.layerVolatile(setup.quick ? { presenceGrace: "2 seconds" } : {})),
  Layer.provide(Bus),
  Layer.provide(PgClient.layer({ url: Redacted.make(setup.databaseUrl), maxConnections: 2 })),
  Layer.launch,
  NodeRuntime.runMain
)
