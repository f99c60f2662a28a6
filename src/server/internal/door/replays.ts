/**
 * What one session reads of the past: one replay from the database at a time, because others want
 * theirs, and only while the socket takes what is read.
 */
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Semaphore from "effect/Semaphore"
import type { DurableError } from "../hub/durableChannel.ts"
import type { Follower } from "./follower.ts"
import type { Mailbox } from "./mailbox.ts"
import type { Match } from "./registry.ts"

/** A subscription that may fall behind. */
export interface Reading {
  readonly match: Match
  readonly follower: Follower<DurableError>
}

export class Replays {
  #turns: Semaphore.Semaphore | undefined
  /** Channels that are behind read on. */
  #busy = false

  /** A live channel remembers what it replays. */
  inTurn<A, E>({ channel }: Match, replay: Effect.Effect<A, E>): Effect.Effect<A, E> {
    if (channel.delivery === "live") return replay
    return (this.#turns ??= Semaphore.makeUnsafe(1)).withPermit(replay)
  }

  /**
   * Channels are behind, because frames of them were dropped or had no room: one after the other reads
   * on, a part at a time, until the socket is full again or none is behind. `lost`: one cannot go on.
   */
  readOn<S extends Reading>(
    mailbox: Mailbox,
    of: (channel: string) => S | undefined,
    lost: (
      channel: string,
      subscription: S,
      cause: Cause.Cause<DurableError>
    ) => Effect.Effect<void>
  ): Effect.Effect<void> {
    return Effect.gen({ self: this }, function* () {
      if (this.#busy) return
      this.#busy = true
      let next: readonly [channel: string, from: string] | undefined
      while ((next = mailbox.nextBehind()) !== undefined) {
        const [channel, from] = next
        const subscription = of(channel)
        if (subscription === undefined) continue
        const { follower, match } = subscription
        // In the step in which it is behind no more: what comes now has its place after the replay.
        follower.hold()
        yield* Effect.catchCause(this.inTurn(match, follower.catchUp(from)), (cause) =>
          lost(channel, subscription, cause)
        )
      }
      // In the same step as the look: who is behind later must find nobody reading.
      this.#busy = false
    })
  }
}
