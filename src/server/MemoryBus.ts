/**
 * The bus between nodes in one process, without a database. For tests.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Bus from "./internal/bus/bus.ts"
import { type BusOptions, resolvedBus } from "./internal/bus/busOptions.ts"
import {
  carrierOf,
  networkKeys,
  type MemoryNetwork,
  makeNetwork
} from "./internal/bus/memoryCarrier.ts"
import { checked, type InvalidOption } from "./internal/options.ts"
import { NodeBus } from "./NodeBus.ts"

export type {
  /**
   * @category models
   * @since 0.1.0
   */
  BusOptions as Options
} from "./internal/bus/busOptions.ts"
export type {
  /**
   * @category models
   * @since 0.1.0
   */
  NetworkFault as Fault,
  /**
   * @category models
   * @since 0.1.0
   */
  MemoryNetwork as Network
} from "./internal/bus/memoryCarrier.ts"

/**
 * Makes a network, which connects all nodes whose bus is made with it.
 *
 * **Example** (A network that loses every message to one node)
 *
 * ```ts
 * const network = MemoryBus.network(({ to }, deliver) => (to === "three" ? undefined : deliver()))
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const network = makeNetwork

/**
 * Makes the bus of one node. Says goodbye to the others when the scope closes.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (
  network: MemoryNetwork,
  options?: BusOptions
): Effect.Effect<NodeBus["Service"], InvalidOption, Scope.Scope> =>
  Effect.gen(function* () {
    const node = yield* checked(() => resolvedBus(options ?? {}))
    return yield* Bus.make(yield* carrierOf(network, node.self.name), networkKeys(network), node)
  })

/**
 * The bus of one node.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (
  network: MemoryNetwork,
  options?: BusOptions
): Layer.Layer<NodeBus, InvalidOption> => Layer.effect(NodeBus, make(network, options))
