/**
 * What one session reads of the past: one replay from the database at a time, because others want
 * theirs, and only while the socket takes what is read.
 */
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type { JoinError } from "../outbox/catchUp.ts"
import type { Subscriber } from "./subscriber.ts"
import type { Mailbox } from "./mailbox.ts"
import type { Match } from "./registry.ts"

/** A subscription that may fall behind. */
export interface Replayable {
  readonly match: Match
  readonly subscriber: Subscriber<JoinError>
}

/** One replay's turn in its session, from before it is read until it is sent. */
export class Turn {
  held = false
  wake: (() => void) | undefined
}

export class Replays {
  /** The turn that is held, and those that wait. */
  readonly #turns = new Set<Turn>()
  /** Channels that are behind read on. */
  #busy = false

  /** Waits for the turn. What the node remembers by itself needs none. */
  enter({ delivery }: Match, turn: Turn): Effect.Effect<void> {
    if (!delivery.resumes) return Effect.void
    return Effect.suspend(() => {
      this.#turns.add(turn)
      if (this.#turns.size === 1) turn.held = true
      return turn.held
        ? Effect.void
        : Effect.callback<void>((resume) => {
            turn.wake = () => resume(Effect.void)
          })
    })
  }

  /** Gives the turn back, or waits for it no longer. */
  leave(turn: Turn): void {
    if (!this.#turns.delete(turn) || !turn.held) return
    for (const next of this.#turns) {
      next.held = true
      return next.wake?.()
    }
  }

  /**
   * Channels are behind, because frames of them were dropped or had no room: one after the other reads
   * on, a part at a time, until the socket is full again or none is behind. `lost`: one cannot go on.
   */
  readOn<S extends Replayable>(
    mailbox: Mailbox,
    of: (channel: string) => S | undefined,
    lost: (channel: string, subscription: S, cause: Cause.Cause<JoinError>) => Effect.Effect<void>
  ): Effect.Effect<void> {
    return Effect.gen({ self: this }, function* () {
      if (this.#busy) return
      this.#busy = true
      let next: readonly [channel: string, from: string] | undefined
      while ((next = mailbox.nextBehind()) !== undefined) {
        const [channel, from] = next
        const subscription = of(channel)
        if (subscription === undefined) continue
        const { subscriber, match } = subscription
        // In the step in which it is behind no more: what comes now has its place after the replay.
        subscriber.hold()
        const turn = new Turn()
        yield* Effect.andThen(this.enter(match, turn), subscriber.catchUp(from)).pipe(
          Effect.ensuring(Effect.sync(() => this.leave(turn))),
          Effect.catchCause((cause) => lost(channel, subscription, cause))
        )
      }
      // In the same step as the look: who is behind later must find nobody reading.
      this.#busy = false
    })
  }
}
