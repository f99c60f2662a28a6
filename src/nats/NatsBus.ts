/**
 * The bus between nodes over NATS: one subject of the database, encrypted as over PostgreSQL.
 *
 * It needs the installed objects, whose secret only the owner and the node role may read, and no link and
 * no notifications: PostgreSQL does nothing for it but to keep the secret. Where NATS is lost, the nodes do
 * not hear each other until it is back.
 *
 * @since 0.1.0
 */
import { PgClient } from "@effect/sql-pg/PgClient"
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Bus from "../server/internal/bus/bus.ts"
import type { BusForbidden } from "../server/internal/bus/busErrors.ts"
import { type BusOptions, resolvedBus } from "../server/internal/bus/busOptions.ts"
import * as DatabaseKeys from "../server/internal/bus/databaseKeys.ts"
import { checked, type InvalidOption } from "../server/internal/options.ts"
import { SchemaName } from "../server/internal/sql/schemaName.ts"
import { NodeBus } from "../server/NodeBus.ts"
import type { NotInstalled, OutdatedInstall } from "../server/PgInstaller.ts"
import type { NatsDeaf, NatsForbidden } from "./internal/connectionErrors.ts"
import * as NatsCarrier from "./internal/natsCarrier.ts"
import { NatsConnection } from "./NatsConnection.ts"

export type {
  /**
   * @category models
   * @since 0.1.0
   */
  BusOptions as Options
} from "../server/internal/bus/busOptions.ts"

/**
 * Why a node has no bus over NATS.
 *
 * @category errors
 * @since 0.1.0
 */
export type StartError =
  | BusForbidden
  | InvalidOption
  | NatsDeaf
  | NatsForbidden
  | NotInstalled
  | OutdatedInstall

/**
 * Makes the bus of this node. Says goodbye to the others when the scope closes.
 *
 * Completes when the secret was read, or when PostgreSQL could not be reached: the state is `down` until it
 * can be. Fails with `NatsForbidden` or `NatsDeaf`, within 2 s, when the account of the node may not use the
 * subject of the bus; with `NotInstalled` or `OutdatedInstall` when the objects are missing or of an earlier
 * version; with `BusForbidden` when the role may not read the secret; and with `InvalidOption`. Later it
 * fails never: a node that hears nothing is `deaf`, and opens another connection.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (
  options?: BusOptions
): Effect.Effect<NodeBus["Service"], StartError, NatsConnection | PgClient | Scope.Scope> =>
  Effect.gen(function* () {
    const node = yield* checked(() => resolvedBus(options ?? {}))
    const connection = yield* NatsConnection
    const schema = yield* SchemaName
    const keys = yield* DatabaseKeys.make(yield* PgClient)
    const identity = () => keys.current()?.identity
    const known = identity()
    if (known !== undefined) {
      yield* connection.prove([NatsCarrier.busSubject(connection.root, known, schema)])
    }
    return yield* Bus.make(NatsCarrier.make(connection, schema, identity), keys, node)
  })

/**
 * The bus of this node.
 *
 * **Example** (A bus beside the reader)
 *
 * ```ts
 * const Bus = NatsBus.layer().pipe(Layer.provide(NatsConnection.layer({ servers: "nats:4222" })))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (
  options?: BusOptions
): Layer.Layer<NodeBus, StartError, NatsConnection | PgClient> =>
  Layer.effect(NodeBus, make(options))

/**
 * `layer`, with options from a `Config`.
 *
 * **Example** (The name of a node from its environment)
 *
 * ```ts
 * NatsBus.layerConfig({ name: Config.String("HOSTNAME") })
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig = (
  config: Config.Wrap<BusOptions>
): Layer.Layer<NodeBus, StartError | Config.ConfigError, NatsConnection | PgClient> =>
  Layer.effect(NodeBus, Effect.flatMap(Config.unwrap(config), make))
