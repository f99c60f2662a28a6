/**
 * Bounds the time of a callback of the application, also if it cannot be interrupted, because the
 * client must get an answer.
 */
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"

/** Fails after so many milliseconds. It interrupts the effect then, without waiting for its end. */
export const within = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  millis: number
): Effect.Effect<A, E | Cause.TimeoutError, R> =>
  Effect.acquireUseRelease(
    Effect.forkDetach(effect, { startImmediately: true }),
    // Most callbacks complete at once and need no timer.
    (fiber) => fiber.pollUnsafe() ?? Effect.timeout(Fiber.join(fiber), millis),
    (fiber) => Effect.sync(() => fiber.interruptUnsafe())
  )
