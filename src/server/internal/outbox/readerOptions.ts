/**
 * The options of a reader of the outbox with their defaults, checked: of the one of PostgreSQL and of the
 * one in memory.
 */
import type * as Duration from "effect/Duration"
import { outboxReader as Defaults } from "../../../internal/defaults.ts"
import type { RingLimits } from "../ring.ts"
import { count, millis } from "../options.ts"
import type { ReplayLimits } from "./replayAdmission.ts"
import type { Bounds } from "./replayBounds.ts"
import type { PageLimits } from "./outbox.ts"

/** What PostgreSQL takes for a number of rows, with the one beyond the page. */
const mostRows = 2_147_483_646

/** Of the options of `OutboxReader.layer`. */
interface Given extends GivenRecent {
  readonly maxPageMessages?: number | undefined
  readonly maxPageBytes?: number | undefined
  readonly maxReplayEvents?: number | undefined
  readonly maxReplayBytes?: number | undefined
  readonly maxBacklog?: number | undefined
  readonly positionInterval?: Duration.Input | undefined
}

interface GivenRecent {
  readonly maxMemoryEvents?: number | undefined
  readonly maxMemoryAge?: Duration.Input | undefined
  readonly maxMemoryBytes?: number | undefined
}

interface GivenTogether {
  readonly maxReplays?: number | undefined
  readonly maxReplayQueue?: number | undefined
  readonly maxReplayMemory?: number | undefined
}

/** What both readers take. Throws `InvalidOption`. */
export const shared = (
  options: Given
): {
  readonly limits: PageLimits
  /** What a socket is replayed at most. */
  readonly bounds: Bounds
  /** Batches that a slow consumer may leave lying. */
  readonly backlog: number
  /** Milliseconds between two positions for every follower. */
  readonly positionInterval: number
  /** What is remembered of what was handed out. */
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
  recent: recent(options)
})

/** What is remembered of each channel, for how long, and of all together. Throws `InvalidOption`. */
export const recent = (options: GivenRecent): RingLimits => ({
  events: count("maxMemoryEvents", options.maxMemoryEvents ?? Defaults.maxMemoryEvents, {
    least: 0
  }),
  maxAge: millis("maxMemoryAge", options.maxMemoryAge ?? Defaults.maxMemoryAge, {
    least: 0,
    endless: true
  }),
  bytes: count("maxMemoryBytes", options.maxMemoryBytes ?? Defaults.maxMemoryBytes, { least: 0 })
})

/** All replays of a node together. Throws `InvalidOption`. */
export const together = (options: GivenTogether): ReplayLimits => ({
  atOnce: count("maxReplays", options.maxReplays ?? Defaults.maxReplays),
  queue: count("maxReplayQueue", options.maxReplayQueue ?? Defaults.maxReplayQueue, { least: 0 }),
  // What is kept is subtracted from it again, which endless memory would not survive.
  bytes: count("maxReplayMemory", options.maxReplayMemory ?? Defaults.maxReplayMemory, {
    unlimited: false
  })
})
