import { Effect, Fiber } from "effect"
import { TestClock } from "effect/testing"

/** Waits until a condition of what happens outside of Effect holds. */
export const until = (condition: () => boolean): Effect.Effect<void> =>
  Effect.asVoid(Effect.repeat(Effect.sleep(10), { until: () => condition() }))

/** Puts the clock of a test forward, and lets sockets answer in between, until a fiber has ended. */
export const hurried = <A, E>(fiber: Fiber.Fiber<A, E>): Effect.Effect<A, E> =>
  TestClock.adjust("100 millis").pipe(
    Effect.andThen(TestClock.withLive(Effect.sleep(5))),
    Effect.repeat({ until: () => fiber.pollUnsafe() !== undefined }),
    Effect.andThen(Fiber.join(fiber))
  )
