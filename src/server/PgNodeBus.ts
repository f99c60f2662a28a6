/**
 * The bus between nodes over PostgreSQL: one NOTIFY channel, encrypted.
 *
 * It needs the installed objects, whose secret only the owner and the node role may read, and the link of a
 * `NotificationSource`. It sends on one more session at the address of the pool, so that a node is heard
 * while the application uses its whole pool. Good for about 8-16 nodes, because
 * every node receives what every other sends.
 *
 * @since 0.1.0
 */
import { PgClient } from "@effect/sql-pg/PgClient"
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Bus from "./internal/bus/bus.ts"
import { type BusForbidden, NoBus } from "./internal/bus/busErrors.ts"
import { type BusOptions, resolvedBus } from "./internal/bus/busOptions.ts"
import * as DatabaseKeys from "./internal/bus/databaseKeys.ts"
import * as NotifyCarrier from "./internal/bus/notifyCarrier.ts"
import { checked, type InvalidOption } from "./internal/options.ts"
import { NodeBus } from "./NodeBus.ts"
import { NotificationSource } from "./NotificationSource.ts"
import type { NotInstalled, OutdatedInstall } from "./PgInstaller.ts"

export {
  /**
   * @category errors
   * @since 0.1.0
   */
  BusForbidden,
  /**
   * @category errors
   * @since 0.1.0
   */
  NoBus
} from "./internal/bus/busErrors.ts"
export type {
  /**
   * @category models
   * @since 0.1.0
   */
  BusOptions as Options
} from "./internal/bus/busOptions.ts"

/**
 * Why a node has no bus over PostgreSQL.
 *
 * @category errors
 * @since 0.1.0
 */
export type StartError = BusForbidden | InvalidOption | NoBus | NotInstalled | OutdatedInstall

/**
 * Makes the bus of this node. Says goodbye to the others when the scope closes.
 *
 * Completes when the secret was read, or when PostgreSQL could not be reached: the state is `down` until it
 * can be. Fails with `NotInstalled` or `OutdatedInstall` when the objects are missing or of an earlier
 * version, with `BusForbidden` when the role may not read the secret, with `InvalidOption`, and with `NoBus`
 * without a `NotificationSource`, for programs without types.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (
  options?: BusOptions
): Effect.Effect<NodeBus["Service"], StartError, NotificationSource | PgClient | Scope.Scope> =>
  Effect.gen(function* () {
    const node = yield* checked(() => resolvedBus(options ?? {}))
    const source = Option.getOrUndefined(yield* Effect.serviceOption(NotificationSource))
    if (source === undefined) return yield* new NoBus()
    const sql = yield* PgClient
    const keys = yield* DatabaseKeys.make(sql)
    return yield* Bus.make(yield* NotifyCarrier.make(source, sql), keys, node)
  })

/**
 * The bus of this node.
 *
 * **Example** (A bus beside the door)
 *
 * ```ts
 * const Bus = PgNodeBus.layer().pipe(Layer.provide(PgNotificationSource.layer()))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (
  options?: BusOptions
): Layer.Layer<NodeBus, StartError, NotificationSource | PgClient> =>
  Layer.effect(NodeBus, make(options))

/**
 * `layer`, with options from a `Config`.
 *
 * **Example** (The name of a node from its environment)
 *
 * ```ts
 * PgNodeBus.layerConfig({ name: Config.String("HOSTNAME") })
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig = (
  config: Config.Wrap<BusOptions>
): Layer.Layer<NodeBus, StartError | Config.ConfigError, NotificationSource | PgClient> =>
  Layer.effect(NodeBus, Effect.flatMap(Config.unwrap(config), make))
