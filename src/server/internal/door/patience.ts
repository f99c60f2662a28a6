/**
 * What the fiber of a session does: it sleeps until the socket takes no more bytes, waits for it to
 * drain, and sleeps again. A socket that takes nothing for too long is given up.
 *
 * One effect that is parked in one callback: most sessions never need more, and a node has many.
 */
import * as Effect from "effect/Effect"
import type { Peer } from "./peer.ts"

export interface Patient {
  readonly peer: Pick<Peer, "onDrain">
  /** Milliseconds without a drain. */
  readonly patience: number
  /** Whether the socket takes no more now. */
  isBlocked(): boolean
  /** Says whom to wake when it does not; `undefined`: nobody. */
  onBlocked(wake: (() => void) | undefined): void
  /** The socket took everything that was written to it. */
  drained(): void
  /** It did not, for too long. */
  stuck(): void
}

/** Never completes. */
export const wait = (session: Patient): Effect.Effect<never> =>
  Effect.callback<never>((resume) => {
    const wake = () => resume(Effect.andThen(drain(session), wait(session)))
    if (session.isBlocked()) return wake()
    session.onBlocked(wake)
  })

const drain = (session: Patient): Effect.Effect<void> =>
  Effect.callback<void>((resume) => {
    session.onBlocked(undefined)
    const back = session.peer.onDrain(() => {
      session.drained()
      resume(Effect.void)
    })
    return Effect.sync(back)
  }).pipe(
    Effect.timeoutOrElse({
      duration: session.patience,
      orElse: () => Effect.sync(() => session.stuck())
    }),
    Effect.catchDefect((defect) =>
      Effect.andThen(
        Effect.logError("session", defect),
        Effect.sync(() => session.stuck())
      )
    )
  )
