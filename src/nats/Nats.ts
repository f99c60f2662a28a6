/**
 * All that nodes do over NATS, for the class of `effect-realtime/node`.
 *
 * In: the options of the connection. Out: the layers that the class composes: the bus, the feed and the source
 * of live channels, on one connection. An Effect app composes the same layers of `NatsBus`, `NatsFeed` and
 * `NatsNotificationSource`.
 *
 * @since 0.1.0
 */
import * as Layer from "effect/Layer"
import { type BusOptions, resolvedBus } from "../server/internal/bus/busOptions.ts"
import type { Nodes } from "../server/Nodes.ts"
import { type ConnectionOptions, resolvedConnection } from "./internal/connectionOptions.ts"
import * as NatsBus from "./NatsBus.ts"
import * as NatsConnection from "./NatsConnection.ts"
import * as NatsFeed from "./NatsFeed.ts"
import * as NatsNotificationSource from "./NatsNotificationSource.ts"

/**
 * Options of `nodes`: those of the connection, and of the bus.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options extends ConnectionOptions {
  /** The name of this node, and the times of the bus; see `NatsBus`. */
  readonly bus?: BusOptions | undefined
}

/**
 * For the option `nodes` of the class. Nothing connects before the server starts. Throws `InvalidOption`.
 *
 * **Example** (A server of several nodes)
 *
 * ```ts
 * new RealtimeServer(httpServer, databaseUrl, {
 *   nodes: Nats.nodes({ servers: ["nats-1:4222", "nats-2:4222"], user: "node", password })
 * })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const nodes = ({ bus, ...options }: Options): Nodes => {
  resolvedConnection(options)
  resolvedBus(bus ?? {})
  // One value, so that all three have the same connection.
  const connection = NatsConnection.layer(options)
  return {
    bus: Layer.provide(NatsBus.layer(bus), connection),
    feed: Layer.provide(NatsFeed.layer, connection),
    source: Layer.provide(NatsNotificationSource.layer, connection)
  }
}
