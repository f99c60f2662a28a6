/**
 * The options of every bus: the name of the node, and its times.
 */
import type * as Duration from "effect/Duration"
import { randomUUID } from "node:crypto"
import { hostname } from "node:os"
import { nodeBus as Defaults } from "../../../internal/defaults.ts"
import type { Node } from "../../NodeBus.ts"
import { invalid, millis } from "../options.ts"

/**
 * Options of a bus. All nodes of a database should have the same times.
 *
 * @category models
 * @since 0.1.0
 */
export interface BusOptions {
  /**
   * The name of this node in stats and logs, default the name of the host, the number of the process, and four
   * random characters: 1-100 characters. No two running nodes may have the same name.
   */
  readonly name?: string | undefined
  /** Time between two heartbeats, default 1 s. */
  readonly heartbeatInterval?: Duration.Input | undefined
  /**
   * Time without a message of a node until it counts as silent, default 3 s. At least twice that of
   * `heartbeatInterval`.
   */
  readonly silentAfter?: Duration.Input | undefined
  /**
   * Time without a message of a node until the others forget it, default 1 minute. At least that of
   * `silentAfter`.
   */
  readonly forgetAfter?: Duration.Input | undefined
  /**
   * Time that a message waits for others to travel with it, default 50 ms. At most that of `silentAfter`.
   */
  readonly batchWindow?: Duration.Input | undefined
}

/** In milliseconds. */
export interface BusTimes {
  readonly heartbeat: number
  readonly silentAfter: number
  readonly forgetAfter: number
  readonly batchWindow: number
}

const names: ReadonlySet<string> = new Set<keyof BusOptions>([
  "name",
  "heartbeatInterval",
  "silentAfter",
  "forgetAfter",
  "batchWindow"
])

/** Throws `InvalidOption`. */
export const resolvedBus = (
  options: BusOptions
): { readonly self: Node; readonly times: BusTimes } => {
  for (const option of Object.keys(options)) {
    if (!names.has(option)) {
      throw invalid(
        `bus.${option}`,
        options[option as keyof BusOptions],
        `one of ${[...names].join(", ")}`
      )
    }
  }
  const incarnation = randomUUID()
  // One process may have several.
  const own = `${hostname().slice(0, 80)}-${process.pid}-${incarnation.slice(0, 4)}`
  const name = options.name ?? own
  if (typeof name !== "string" || name.length < 1 || name.length > 100) {
    throw invalid("name", name, "a text of 1-100 characters")
  }
  const heartbeat = millis(
    "heartbeatInterval",
    options.heartbeatInterval ?? Defaults.heartbeatInterval
  )
  // One heartbeat may be late.
  const silentAfter = millis("silentAfter", options.silentAfter ?? Defaults.silentAfter, {
    least: 2 * heartbeat
  })
  return {
    self: { name, incarnation },
    times: {
      heartbeat,
      silentAfter,
      forgetAfter: millis("forgetAfter", options.forgetAfter ?? Defaults.forgetAfter, {
        least: silentAfter
      }),
      batchWindow: millis("batchWindow", options.batchWindow ?? Defaults.batchWindow, {
        most: silentAfter
      })
    }
  }
}
