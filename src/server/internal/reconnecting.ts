/**
 * The loop of whatever must outlive its failures: it runs an attempt, and after each failure waits as the
 * policy says and runs it again.
 *
 * In: the attempt, and what its caller makes of a failure. Out: what an attempt returns, or a failure that
 * the caller lets through; between two attempts a line in the log. What a failure means, and what that line
 * says, is left to the caller.
 */
import type * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Backoff from "../../Backoff.ts"

/** What the caller makes of a failure that is not let through. */
export interface Pause {
  /** The wait in milliseconds, given what the policy says; without it, that. */
  readonly delay?: (usual: number) => number
  /** What the log says of the failure, so many milliseconds before the next attempt. */
  readonly text: (delay: number) => string
  /** The log has it already, and says it for debugging only. */
  readonly known?: boolean
}

/** Runs an attempt until one succeeds, or until `onFailure` fails; `now`: milliseconds since 1970. */
export type Reconnecting = <A, E, R, E2, R2>(
  attempt: (onUp: Effect.Effect<void>) => Effect.Effect<A, E, R>,
  onFailure: (cause: Cause.Cause<E>, now: number) => Effect.Effect<Pause, E2, R2>
) => Effect.Effect<A, E2, R | R2>

/**
 * Failures in a row are counted over all calls of what this gives. An attempt was healthy since it ran
 * `onUp`, or, `fromStart`, since the wait before it.
 */
export const make = (
  policy: Backoff.Policy,
  { fromStart }: { readonly fromStart: boolean }
): Effect.Effect<Reconnecting> =>
  Effect.map(Backoff.make(policy), (backoff): Reconnecting => {
    /** When the last wait ended. */
    let waited = 0
    return (attempt, onFailure) =>
      Effect.gen(function* () {
        while (true) {
          let upAt = fromStart ? waited : undefined
          const onUp = Effect.map(Clock.currentTimeMillis, (now) => {
            upAt = now
          })
          const exit = yield* Effect.exit(attempt(onUp))
          if (Exit.isSuccess(exit)) return exit.value
          const now = yield* Clock.currentTimeMillis
          const pause = yield* onFailure(exit.cause, now)
          const usual = yield* backoff.delay(upAt === undefined ? 0 : now - upAt)
          const delay = pause.delay === undefined ? usual : pause.delay(usual)
          waited = now + delay
          const text = pause.text(Math.round(delay))
          yield* pause.known === true ? Effect.logDebug(text) : Effect.logWarning(text)
          yield* Effect.sleep(delay)
        }
      })
  })
