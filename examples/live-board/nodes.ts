/**
 * What joins this node with others: NATS where NATS_URL names a server, else PostgreSQL alone.
 *
 * With NATS one elected node reads the outbox for all. It is never needed: while it is away, each node reads
 * for itself. A single board needs neither, and the bus then has one node.
 */
// #region nodes
import { Config, Effect, Layer, Option } from "effect"
import { NatsBus, NatsConnection, NatsFeed } from "effect-realtime/nats"
import { type NodeBus, PgNodeBus } from "effect-realtime/server"

/** The name of this node, where it has one. */
export const name = Config.option(Config.String("NODE_NAME"))

const bus = Effect.map(name, (name) => (Option.isSome(name) ? { name: name.value } : {}))

/** The bus over NATS, and the carrier for the ticks of the elected reader. */
const overNats = (servers: string) =>
  Layer.merge(Layer.unwrap(Effect.map(bus, NatsBus.layer)), NatsFeed.layer).pipe(
    Layer.provide(NatsConnection.layer({ servers, startWithout: true }))
  )

const overPostgres = Layer.unwrap(Effect.map(bus, PgNodeBus.layer))

type Joined = Layer.Layer<
  NodeBus.NodeBus,
  Layer.Error<ReturnType<typeof overNats>> | Layer.Error<typeof overPostgres>,
  Layer.Services<ReturnType<typeof overNats>> | Layer.Services<typeof overPostgres>
>

/** The bus between the nodes; over NATS, the carrier that `OutboxReader.layer` uses too. */
export const layer = Layer.unwrap(
  Effect.map(Config.option(Config.String("NATS_URL")), (url): Joined =>
    Option.isSome(url) ? overNats(url.value) : overPostgres
  )
)
// #endregion
