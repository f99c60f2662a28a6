/**
 * The options of a reader of the outbox with their defaults, checked: of the one of PostgreSQL and of the
 * one in memory.
 */
import type * as Duration from "effect/Duration"
import { count, millis } from "../options.ts"
import type { ReplayLimits } from "./replayAdmission.ts"
import type { Bounds } from "./bounds.ts"
import type { PageLimits } from "./outbox.ts"

/** What PostgreSQL takes for a number of rows, with the one beyond the page. */
const mostRows = 2_147_483_646

/** Of the options of `OutboxReader.layer`. */
interface Given {
  readonly maxPageMessages?: number | undefined
  readonly maxPageBytes?: number | undefined
  readonly maxReplayEvents?: number | undefined
  readonly maxReplayBytes?: number | undefined
  readonly maxBacklog?: number | undefined
  readonly positionInterval?: Duration.Input | undefined
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
} => ({
  limits: {
    messages: count("maxPageMessages", options.maxPageMessages ?? 1000, {
      most: mostRows,
      unlimited: false
    }),
    bytes: count("maxPageBytes", options.maxPageBytes ?? 1024 * 1024, { unlimited: false })
  },
  bounds: {
    events: count("maxReplayEvents", options.maxReplayEvents ?? 10_000, { least: 0 }),
    bytes: count("maxReplayBytes", options.maxReplayBytes ?? 8 * 1024 * 1024, { least: 0 })
  },
  backlog: count("maxBacklog", options.maxBacklog ?? 64),
  positionInterval: millis("positionInterval", options.positionInterval ?? "1 hour", {
    endless: true
  })
})

/** All replays of a node together. Throws `InvalidOption`. */
export const together = (options: GivenTogether): ReplayLimits => ({
  atOnce: count("maxReplays", options.maxReplays ?? 8),
  queue: count("maxReplayQueue", options.maxReplayQueue ?? 1000, { least: 0 }),
  // What is kept is subtracted from it again, which endless memory would not survive.
  bytes: count("maxReplayMemory", options.maxReplayMemory ?? 64 * 1024 * 1024, { unlimited: false })
})
