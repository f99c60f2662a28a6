import { type Duration, Effect, Fiber, Stream, SubscriptionRef } from "effect"
import { TestClock } from "effect/testing"
import type { SourceState } from "../../src/server/NotificationSource.ts"

/** Waits until a condition of what happens outside of Effect holds; looks every so many milliseconds. */
export const until = (condition: () => boolean, every = 10): Effect.Effect<void> =>
  Effect.asVoid(Effect.repeat(Effect.sleep(every), { until: () => condition() }))

/** The same for a test without Effect; fails after 2 s. */
export const untilAsync = (condition: () => boolean): Promise<void> =>
  Effect.runPromise(
    until(condition, 1).pipe(
      Effect.timeoutOrElse({
        duration: "2 seconds",
        orElse: () => Effect.die(new Error(`not within 2 s: ${String(condition)}`))
      })
    )
  )

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

/** Lets every other fiber have so many turns of the scheduler. */
export const turns = (count: number): Effect.Effect<void> =>
  Effect.gen(function* () {
    for (let turn = 0; turn < count; turn++) yield* Effect.yieldNow
  })
