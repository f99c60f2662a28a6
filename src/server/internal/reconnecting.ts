/**
 * The retry loop of sources and readers: it runs an attempt, waits after a failure as the policy says, and
 * runs the attempt again.
 *
 * In: the attempt, and a function from a failure to a pause and a log line. Out: the result of an attempt,
 * or a failure that this function passes on. The loop logs one line between two attempts.
 */
import type * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Backoff from "../../Backoff.ts"
import { begin, nowhere } from "./tracing.ts"

/** What to do after a failure that is retried. */
export interface Pause {
  /** The wait in milliseconds, from the policy's wait; default: the policy's wait. */
  readonly delay?: (usual: number) => number
  /** The log line, from the milliseconds until the next attempt. */
  readonly text: (delay: number) => string
  /** The same line was logged before: log it at level debug. */
  readonly known?: boolean
}

/** Runs an attempt until one succeeds, or until `onFailure` fails; `now`: milliseconds since 1970. */
export type Reconnecting = <A, E, R, E2, R2>(
  attempt: (onUp: Effect.Effect<void>) => Effect.Effect<A, E, R>,
  onFailure: (cause: Cause.Cause<E>, now: number) => Effect.Effect<Pause, E2, R2>
) => Effect.Effect<A, E2, R | R2>

/**
 * Makes a loop. It counts consecutive failures over all its calls. An attempt counts as healthy since it
 * ran `onUp`; with `fromStart`, since the wait before it ended. `name` is that of the spans: one from the
 * beginning of an attempt until it is up, and one without a duration at its loss.
 */
export const make = (
  policy: Backoff.Policy,
  { fromStart, name }: { readonly fromStart: boolean; readonly name?: string }
): Effect.Effect<Reconnecting> =>
  Effect.map(Backoff.make(policy), (backoff): Reconnecting => {
    /** When the last wait ended. */
    let waited = 0
    return (attempt, onFailure) =>
      Effect.gen(function* () {
        while (true) {
          let upAt = fromStart ? waited : undefined
          const connecting = name === undefined ? nowhere : yield* begin(`realtime.${name}.connect`)
          const onUp = Effect.flatMap(Clock.currentTimeMillis, (now) => {
            upAt = now
            return connecting(Exit.void)
          })
          const exit = yield* Effect.exit(Effect.onExit(attempt(onUp), connecting))
          if (Exit.isSuccess(exit)) return exit.value
          if (name !== undefined && upAt !== undefined) {
            yield* Effect.flatMap(begin(`realtime.${name}.lost`), (end) => end(exit))
          }
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
