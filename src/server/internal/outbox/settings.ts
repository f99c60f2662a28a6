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
  readonly pageMessages?: number | undefined
  readonly pageBytes?: number | undefined
  readonly replayEvents?: number | undefined
  readonly replayBytes?: number | undefined
  readonly backlog?: number | undefined
  readonly positionEvery?: Duration.Input | undefined
}

interface GivenTogether {
  readonly replays?: number | undefined
  readonly replayQueue?: number | undefined
  readonly replayMemory?: number | undefined
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
  readonly positionEvery: number
} => ({
  limits: {
    messages: count("pageMessages", options.pageMessages ?? 1000, {
      most: mostRows,
      unlimited: false
    }),
    bytes: count("pageBytes", options.pageBytes ?? 1024 * 1024, { unlimited: false })
  },
  bounds: {
    events: count("replayEvents", options.replayEvents ?? 10_000, { least: 0 }),
    bytes: count("replayBytes", options.replayBytes ?? 8 * 1024 * 1024, { least: 0 })
  },
  backlog: count("backlog", options.backlog ?? 64),
  positionEvery: millis("positionEvery", options.positionEvery ?? "1 hour", { endless: true })
})

/** All replays of a node together. Throws `InvalidOption`. */
export const together = (options: GivenTogether): ReplayLimits => ({
  atOnce: count("replays", options.replays ?? 8),
  queue: count("replayQueue", options.replayQueue ?? 1000, { least: 0 }),
  // What is kept is subtracted from it again, which endless memory would not survive.
  bytes: count("replayMemory", options.replayMemory ?? 64 * 1024 * 1024, { unlimited: false })
})
