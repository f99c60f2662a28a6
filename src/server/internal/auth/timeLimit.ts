/**
 * Bounds the time that a callback of the application takes, also when it cannot be interrupted: a
 * client must be answered in any case.
 */
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"

/** Fails after so many milliseconds, and interrupts what is still at it without waiting for its end. */
export const within = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  millis: number
): Effect.Effect<A, E | Cause.TimeoutError, R> =>
  Effect.acquireUseRelease(
    Effect.forkDetach(effect, { startImmediately: true }),
    // Most answer at once: no timer for those.
    (fiber) => fiber.pollUnsafe() ?? Effect.timeout(Fiber.join(fiber), millis),
    (fiber) => Effect.sync(() => fiber.interruptUnsafe())
  )
