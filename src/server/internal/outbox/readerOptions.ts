/**
 * Validates the options of a reader of the outbox and fills in their defaults, for PostgreSQL and for the
 * memory.
 */
import * as Duration from "effect/Duration"
import { outboxReader as Defaults } from "../../../internal/defaults.ts"
import type { RingLimits } from "../ring.ts"
import { type GivenRing, ringLimits } from "../ringLimits.ts"
import { count, millis } from "../options.ts"
import type { ReplayLimits } from "./replayAdmission.ts"
import type { Bounds } from "./replayBounds.ts"
import type { PageLimits } from "./outbox.ts"

/** The largest number of rows that PostgreSQL accepts, less the one beyond the page. */
const mostRows = 2_147_483_646

/** Those of the options of `OutboxReader.layer`. */
interface Given extends GivenRing {
  readonly maxPageMessages?: number | undefined
  readonly maxPageBytes?: number | undefined
  readonly maxReplayEvents?: number | undefined
  readonly maxReplayBytes?: number | undefined
  readonly maxBacklog?: number | undefined
  readonly positionInterval?: Duration.Input | undefined
}

interface GivenTimes {
  readonly heartbeatTimeout?: Duration.Input | undefined
  readonly busyInterval?: Duration.Input | undefined
  readonly idleInterval?: Duration.Input | undefined
}

interface GivenTogether {
  readonly maxReplays?: number | undefined
  readonly maxReplayQueue?: number | undefined
  readonly maxReplayMemory?: number | undefined
}

/** The settings of both readers. Throws `InvalidOption`. */
export const shared = (
  options: Given
): {
  readonly limits: PageLimits
  /** The largest replay of a socket. */
  readonly bounds: Bounds
  /** The most batches in a slow consumer's backlog. */
  readonly backlog: number
  /** Milliseconds between two positions for every follower. */
  readonly positionInterval: number
  /** The bounds of the rings. */
  readonly recent: RingLimits
} => ({
  limits: {
    messages: count("maxPageMessages", options.maxPageMessages ?? Defaults.maxPageMessages, {
      most: mostRows,
      unlimited: false
    }),
    bytes: count("maxPageBytes", options.maxPageBytes ?? Defaults.maxPageBytes, {
      unlimited: false
    })
  },
  bounds: {
    events: count("maxReplayEvents", options.maxReplayEvents ?? Defaults.maxReplayEvents, {
      least: 0
    }),
    bytes: count("maxReplayBytes", options.maxReplayBytes ?? Defaults.maxReplayBytes, { least: 0 })
  },
  backlog: count("maxBacklog", options.maxBacklog ?? Defaults.maxBacklog),
  positionInterval: millis(
    "positionInterval",
    options.positionInterval ?? Defaults.positionInterval,
    {
      endless: true
    }
  ),
  recent: ringLimits(options, Defaults)
})

/** How often a reader looks, and how long it waits for an answer. Throws `InvalidOption`. */
export const times = (options: GivenTimes) => {
  const beat = Duration.millis(
    millis("heartbeatTimeout", options.heartbeatTimeout ?? Defaults.heartbeatTimeout)
  )
  return {
    beat,
    /** The time for a page. */
    patience: Duration.times(beat, 10),
    times: {
      busy: millis("busyInterval", options.busyInterval ?? Defaults.busyInterval),
      idle:
        options.idleInterval === undefined
          ? undefined
          : millis("idleInterval", options.idleInterval)
    }
  }
}

/** The limits of all replays of a node together. Throws `InvalidOption`. */
export const together = (options: GivenTogether): ReplayLimits => ({
  atOnce: count("maxReplays", options.maxReplays ?? Defaults.maxReplays),
  queue: count("maxReplayQueue", options.maxReplayQueue ?? Defaults.maxReplayQueue, { least: 0 }),
  // Not `Infinity`: the admission subtracts what is kept from it.
  bytes: count("maxReplayMemory", options.maxReplayMemory ?? Defaults.maxReplayMemory, {
    unlimited: false
  })
})
