/**
 * Time for synchronous code: the Clock's now, and timers that are driven by the Clock and gone with
 * the scope.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"

export interface Time {
  /** Milliseconds since 1970. */
  readonly now: () => number
  /** Runs `run` once, `delay` milliseconds from now; calling the result prevents it. */
  readonly after: (delay: number, run: () => void) => () => void
}

export const make: Effect.Effect<Time, never, Scope.Scope> = Effect.gen(function* () {
  const clock = yield* Clock.Clock
  const scope = yield* Effect.scope
  const runSync = Effect.runSyncWith(yield* Effect.context<never>())
  return {
    now: () => clock.currentTimeMillisUnsafe(),
    after: (delay, run) => {
      // At least 1 ms: a sleep of zero would not leave the current turn of the event loop.
      const sleep = Effect.sleep(Math.max(1, delay))
      const fiber = runSync(
        Effect.forkIn(Effect.andThen(sleep, Effect.sync(run)), scope, { startImmediately: true })
      )
      return () => fiber.interruptUnsafe()
    }
  }
})

/** An option of time in milliseconds. */
export const millis = (input: Duration.Input | undefined, byDefault: number): number =>
  Duration.toMillis(input ?? byDefault)
