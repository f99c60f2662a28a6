/**
 * The connection of a node to NATS, which all layers of this subpath share: one for each node.
 *
 * In: servers and what proves the node to them. It fails only at the start. Later it reconnects for ever,
 * and a node that has no NATS works on with PostgreSQL alone.
 *
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { checked, type InvalidOption } from "../server/internal/options.ts"
import * as Connecting from "./internal/connection.ts"
import type { NatsRefused, NatsUnreachable } from "./internal/connectionErrors.ts"
import { type ConnectionOptions, resolvedConnection } from "./internal/connectionOptions.ts"

export {
  /**
   * @category errors
   * @since 0.1.0
   */
  NatsDeaf,
  /**
   * @category errors
   * @since 0.1.0
   */
  NatsForbidden,
  /**
   * @category errors
   * @since 0.1.0
   */
  NatsRefused,
  /**
   * @category errors
   * @since 0.1.0
   */
  NatsUnreachable
} from "./internal/connectionErrors.ts"
export type {
  /**
   * @category models
   * @since 0.1.0
   */
  ConnectionOptions as Options
} from "./internal/connectionOptions.ts"
export type {
  /**
   * @category models
   * @since 0.1.0
   */
  Connection,
  /**
   * @category models
   * @since 0.1.0
   */
  Hear
} from "./internal/connection.ts"

/**
 * The connection of this node to NATS.
 *
 * @category services
 * @since 0.1.0
 */
export class NatsConnection extends Context.Service<NatsConnection, Connecting.Connection>()(
  "effect-realtime/nats/NatsConnection"
) {}

/**
 * Why a node has no connection at its start.
 *
 * @category errors
 * @since 0.1.0
 */
export type StartError = InvalidOption | NatsRefused | NatsUnreachable

/**
 * Connects. Completes with the first connection. Fails with `NatsUnreachable` when no server of the list
 * answers, with `NatsRefused` when one rejects the login, and with `InvalidOption`. Later it retries after
 * every failure, for ever.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (
  options: ConnectionOptions
): Effect.Effect<Connecting.Connection, StartError, Scope.Scope> =>
  Effect.flatMap(
    checked(() => resolvedConnection(options)),
    Connecting.make
  )

/**
 * The connection of this node.
 *
 * **Example** (Two servers of a cluster)
 *
 * ```ts
 * const Nats = NatsConnection.layer({ servers: ["nats-1:4222", "nats-2:4222"] })
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options: ConnectionOptions): Layer.Layer<NatsConnection, StartError> =>
  Layer.effect(NatsConnection, make(options))

/**
 * `layer`, with options from a `Config`.
 *
 * **Example** (A server and its token)
 *
 * ```ts
 * NatsConnection.layerConfig({
 *   servers: Config.String("NATS_URL"),
 *   token: Config.Redacted("NATS_TOKEN")
 * })
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig = (
  config: Config.Wrap<ConnectionOptions>
): Layer.Layer<NatsConnection, StartError | Config.ConfigError> =>
  Layer.effect(NatsConnection, Effect.flatMap(Config.unwrap(config), make))
