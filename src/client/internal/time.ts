/**
 * Time for synchronous code: the Clock's now, timers that are driven by the Clock and gone with the
 * scope, and what else must wait.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"

export interface Time {
  /** Milliseconds of a time that goes on over a sleep, and also when the clock is set back. */
  readonly now: () => number
  /** Such a time as the clock shows it: milliseconds since 1970. */
  readonly shown: (time: number) => number
  /** Runs `run` once, `delay` milliseconds from now; calling the result prevents it. */
  readonly after: (delay: number, run: () => void) => () => void
  /** Runs an effect from the next turn on, and then one of the two; calling the result prevents that. */
  readonly read: <A>(
    effect: Effect.Effect<A, unknown>,
    then: (value: A) => void,
    failed: (cause: unknown) => void
  ) => () => void
  /** Runs an effect that does not wait. */
  readonly runSync: <A>(effect: Effect.Effect<A>) => A
}

export const make: Effect.Effect<Time, never, Scope.Scope> = Effect.gen(function* () {
  const clock = yield* Clock.Clock
  const runSync = Effect.runSyncWith(yield* Effect.context<Scope.Scope>())
  const fork = (effect: Effect.Effect<unknown>) => {
    const fiber = runSync(Effect.forkScoped(effect, { startImmediately: true }))
    return () => fiber.interruptUnsafe()
  }
  let last = 0
  /** By how much the clock was set back. */
  let back = 0
  return {
    now: () => {
      const time = clock.currentTimeMillisUnsafe()
      if (time < last) back += last - time
      last = time
      return time + back
    },
    shown: (time) => time - back,
    // At least 1 ms: a sleep of zero would not leave the current turn of the event loop.
    after: (delay, run) => fork(Effect.delay(Effect.sync(run), Math.max(1, delay))),
    read: (effect, then, failed) =>
      fork(
        Effect.andThen(Effect.yieldNow, Effect.exit(effect)).pipe(
          Effect.map((exit) =>
            Exit.isSuccess(exit) ? then(exit.value) : failed(Cause.squash(exit.cause))
          )
        )
      ),
    runSync
  }
})

/** A time in milliseconds. */
export const millis: (input: Duration.Input) => number = Duration.toMillis
