/**
 * What joins this node with others: NATS where NATS_URL names a server, else PostgreSQL alone.
 *
 * With NATS one elected node reads the outbox and listens to the live channels for all. It is never needed:
 * while it is away, each node reads and listens for itself. A single board needs neither, and the bus then has one node.
 */
// #region nodes
import { Config, Effect, Layer, Option } from "effect"
import { NatsBus, NatsConnection, NatsFeed, NatsNotificationSource } from "effect-realtime/nats"
import { type NodeBus, NotificationSource, PgNodeBus } from "effect-realtime/server"

/** The name of this node, where it has one. */
export const name = Config.option(Config.String("NODE_NAME"))

const natsUrl = Config.option(Config.String("NATS_URL"))

/** One connection for all of this node. */
const connection = NatsConnection.layerConfig({
  servers: Config.String("NATS_URL"),
  startWithout: Config.succeed(true)
})

const bus = Effect.map(name, (name) => (Option.isSome(name) ? { name: name.value } : {}))

/** The bus over NATS, and the carrier for the ticks of the elected reader. */
const overNats = Layer.merge(Layer.unwrap(Effect.map(bus, NatsBus.layer)), NatsFeed.layer).pipe(
  Layer.provide(connection)
)

const overPostgres = Layer.unwrap(Effect.map(bus, PgNodeBus.layer))

type Joined = Layer.Layer<
  NodeBus.NodeBus,
  Layer.Error<typeof overNats> | Layer.Error<typeof overPostgres>,
  Layer.Services<typeof overNats> | Layer.Services<typeof overPostgres>
>

/** The bus between the nodes; over NATS, the carrier that `OutboxReader.layer` uses too. */
export const layer = Layer.unwrap(
  Effect.map(natsUrl, (url): Joined => (Option.isSome(url) ? overNats : overPostgres))
)

const sourceOverNats = NatsNotificationSource.layer.pipe(Layer.provide(connection))

type Source = Layer.Layer<
  NotificationSource.NotificationSource,
  Layer.Error<typeof sourceOverNats>,
  Layer.Services<typeof sourceOverNats>
>

/** The source of live channels, above this node's own; over NATS one node listens for all. */
export const source = Layer.unwrap(
  Effect.map(natsUrl, (url): Source =>
    Option.isSome(url)
      ? sourceOverNats
      : Layer.effect(NotificationSource.NotificationSource, NotificationSource.NotificationSource)
  )
)
// #endregion
