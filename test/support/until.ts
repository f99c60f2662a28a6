import { type Duration, Effect, Fiber, Stream, SubscriptionRef } from "effect"
import { TestClock } from "effect/testing"
import type { SourceState } from "../../src/server/NotificationSource.ts"

/** Waits until a condition outside of Effect holds. */
export const until = (condition: () => boolean): Effect.Effect<void> =>
  Effect.asVoid(Effect.repeat(Effect.sleep(10), { until: () => condition() }))

/** Waits until a source, or a reader, is in a state. */
export const waitFor = (
  { state }: { readonly state: SubscriptionRef.SubscriptionRef<SourceState> },
  wanted: SourceState
): Effect.Effect<void> =>
  SubscriptionRef.changes(state).pipe(
    Stream.filter((now) => now === wanted),
    Stream.runHead,
    Effect.asVoid
  )

/**
 * Advances the clock of a test by `step` at a time, and lets sockets answer for 5 ms in between,
 * until a fiber has ended.
 */
export const hurried = <A, E>(
  fiber: Fiber.Fiber<A, E>,
  step: Duration.Input = "100 millis"
): Effect.Effect<A, E> =>
  TestClock.adjust(step).pipe(
    Effect.andThen(TestClock.withLive(Effect.sleep(5))),
    Effect.repeat({ until: () => fiber.pollUnsafe() !== undefined }),
    Effect.andThen(Fiber.join(fiber))
  )
