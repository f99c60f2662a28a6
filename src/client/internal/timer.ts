/**
 * Timers for synchronous code: driven by the Clock, gone with the scope.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"

/** Runs `run` once, `millis` milliseconds from now; calling the result prevents it. */
export type After = (millis: number, run: () => void) => () => void

export const make: Effect.Effect<After, never, Scope.Scope> = Effect.gen(function* () {
  const scope = yield* Effect.scope
  const runSync = Effect.runSyncWith(yield* Effect.context<never>())
  return (millis, run) => {
    // At least 1 ms: a sleep of zero would not leave the current turn of the event loop.
    const sleep = Effect.sleep(Math.max(1, millis))
    const fiber = runSync(
      Effect.forkIn(Effect.andThen(sleep, Effect.sync(run)), scope, { startImmediately: true })
    )
    return () => fiber.interruptUnsafe()
  }
})
