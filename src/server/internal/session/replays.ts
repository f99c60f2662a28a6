/**
 * The replays of one session: at most one from the database at a time, because other sessions wait for
 * theirs, and only while the socket takes bytes.
 */
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type { JoinError } from "../outbox/catchUp.ts"
import type { Mailbox } from "./mailbox.ts"
import type { Match } from "./registry.ts"

/** A subscription that may fall behind. */
export interface Replayable {
  readonly match: Match
  /** Holds batches until `catchUp` sends what is before them. */
  readonly hold: () => void
  /** Goes on where the socket was full. The client has everything up to `from`. */
  readonly catchUp: (from: string) => Effect.Effect<void, JoinError>
}

/** The turn of one replay in its session, from before it is read until it is sent. */
export class Turn {
  held = false
  wake: (() => void) | undefined
}

export class Replays {
  /** The turn that is held, and the turns that wait. */
  readonly #turns = new Set<Turn>()
  /** Whether channels that are behind are catching up. */
  #busy = false

  /** Waits for the turn. A replay from the node's own ring needs none. */
  enter({ delivery }: Match, turn: Turn): Effect.Effect<void> {
    if (!delivery.resumes) return Effect.void
    return Effect.suspend(() => {
      this.#turns.add(turn)
      if (this.#turns.size === 1) turn.held = true
      return turn.held
        ? Effect.void
        : Effect.callback<void>((resume) => {
            // Another replay may have left since.
            if (turn.held) return resume(Effect.void)
            turn.wake = () => resume(Effect.void)
          })
    })
  }

  /** Releases the turn, or stops waiting for it. */
  leave(turn: Turn): void {
    if (!this.#turns.delete(turn) || !turn.held) return
    for (const next of this.#turns) {
      next.held = true
      return next.wake?.()
    }
  }

  /**
   * Lets the subscriptions catch up whose frames were dropped or had no room, and those with a state to
   * send. They go on one after the other, a part at a time, until the socket is full or none is behind.
   * Calls `lost` for one that cannot go on.
   */
  readOn<S extends Replayable>(
    mailbox: Mailbox,
    of: (key: string) => S | undefined,
    lost: (subscription: S, cause: Cause.Cause<JoinError>) => Effect.Effect<void>
  ): Effect.Effect<void> {
    return Effect.gen({ self: this }, function* () {
      if (this.#busy) return
      this.#busy = true
      let next: readonly [key: string, from: string] | undefined
      while ((next = mailbox.nextBehind()) !== undefined) {
        const [key, from] = next
        const subscription = of(key)
        if (subscription === undefined) continue
        // In the same step in which the view is taken from the list: later batches follow the replay.
        subscription.hold()
        const turn = new Turn()
        yield* Effect.andThen(
          this.enter(subscription.match, turn),
          Effect.suspend(() => subscription.catchUp(from))
        ).pipe(
          Effect.ensuring(Effect.sync(() => this.leave(turn))),
          Effect.catchCause((cause) => lost(subscription, cause))
        )
      }
      // In the same step as the last check, so that a later call starts a loop.
      this.#busy = false
    })
  }
}
