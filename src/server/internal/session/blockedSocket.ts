/**
 * The fiber of a session. It sleeps until the socket is full, waits for the socket to drain, and sleeps
 * again. A socket that takes no bytes for the limit `blockedTimeout` is closed.
 *
 * It is one effect parked in one callback. Most sessions never need more, and a node has many sessions.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type { Port } from "./port.ts"

export interface Patient {
  readonly port: Port
  /** Lets channels that are behind catch up. */
  readOn(): void
}

/** Never completes. */
export const wait = (session: Patient): Effect.Effect<never> =>
  Effect.callback<never>((resume) => {
    const wake = () => resume(Effect.andThen(drain(session), wait(session)))
    const { mailbox } = session.port
    if (mailbox.blocked) return wake()
    mailbox.onFull(wake)
  })

const drain = (session: Patient): Effect.Effect<void> => {
  const { context, mailbox, peer } = session.port
  return Effect.callback<void>((resume) => {
    mailbox.onFull(undefined)
    const back = peer.onDrain(() => {
      if (mailbox.drained()) session.readOn()
      resume(Effect.void)
    })
    return Effect.sync(back)
  }).pipe(
    Effect.timeoutOrElse({
      duration: context.limits.blockedTimeout,
      orElse: () => Effect.sync(() => giveUp(session))
    }),
    Effect.catchDefect((defect) =>
      Effect.andThen(
        context.failed("the wait for a busy socket failed", Cause.die(defect)),
        Effect.sync(() => giveUp(session))
      )
    )
  )
}

const giveUp = ({ port }: Patient): void => {
  port.close("slowConsumer", "blockedTimeout")
  port.peer.terminate()
}
