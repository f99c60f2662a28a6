/**
 * The retry loop of sources and readers: it runs an attempt, waits after a failure as the policy says, and
 * runs the attempt again.
 *
 * In: the attempt, and a function from a failure to its reason. Out: the result of an attempt,
 * or a failure that this function passes on. The loop logs each attempt for debugging; the
 * `Outage` decides which lines are for the operator.
 */
import type * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Backoff from "../../Backoff.ts"
import type { Outage } from "./outage.ts"
import { beginSpan, endNothing } from "./tracing.ts"

/** What to do after a failure that is retried. */
export interface Pause {
  /** The wait in milliseconds, from the policy's wait; default: the policy's wait. */
  readonly delay?: (usual: number) => number
  /** Why the attempt failed. */
  readonly reason: string
  /** Waiting does not fix it, so that the log says it at once. */
  readonly lasts?: boolean
}

/** Runs an attempt until one succeeds, or until `onFailure` fails; `now`: milliseconds since 1970. */
export type Reconnecting = <A, E, R, E2, R2>(
  attempt: (onUp: Effect.Effect<void>) => Effect.Effect<A, E, R>,
  onFailure: (cause: Cause.Cause<E>, now: number) => Effect.Effect<Pause, E2, R2>
) => Effect.Effect<A, E2, R | R2>

export interface LoopOptions {
  /** An attempt is healthy since the wait before it ended, else since it ran `onUp`. */
  readonly fromStart: boolean
  /** The name of the spans: one until an attempt is up, and one without a duration at its loss. */
  readonly name?: string
  /** What the log says. A text is logged for debugging only. */
  readonly outage: Outage | string
}

/**
 * Makes a loop. It counts consecutive failures over all its calls. It works again once an attempt runs
 * `onUp` or succeeds.
 */
export const make = (
  policy: Backoff.Policy,
  { fromStart, name, outage }: LoopOptions
): Effect.Effect<Reconnecting> =>
  Effect.map(Backoff.make(policy), (backoff): Reconnecting => {
    /** When the last wait ended. */
    let waited = 0
    const recovered = typeof outage === "string" ? Effect.void : outage.recovered
    return (attempt, onFailure) =>
      Effect.gen(function* () {
        while (true) {
          let upAt = fromStart ? waited : undefined
          const connecting =
            name === undefined ? endNothing : yield* beginSpan(`realtime.${name}.connect`)
          const onUp = Effect.gen(function* () {
            if (!fromStart) upAt = yield* Clock.currentTimeMillis
            yield* connecting(Exit.void)
            yield* recovered
          })
          const exit = yield* Effect.exit(Effect.onExit(attempt(onUp), connecting))
          if (Exit.isSuccess(exit)) {
            yield* recovered
            return exit.value
          }
          if (name !== undefined && upAt !== undefined) {
            yield* Effect.flatMap(beginSpan(`realtime.${name}.lost`), (end) => end(exit))
          }
          const now = yield* Clock.currentTimeMillis
          const { delay: delayOf, lasts, reason } = yield* onFailure(exit.cause, now)
          const usual = yield* backoff.delay(upAt === undefined ? 0 : now - upAt)
          const delay = delayOf === undefined ? usual : delayOf(usual)
          waited = now + delay
          if (typeof outage !== "string") yield* outage.failing(reason, exit.cause, lasts)
          else yield* Effect.logDebug(`${outage}: ${reason}`)
          yield* Effect.logDebug(`The next try is in ${Math.round(delay)} ms`)
          yield* Effect.sleep(delay)
        }
      })
  })
