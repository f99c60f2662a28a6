/**
 * A clock that can leap, like the clock of a machine that slept.
 *
 * It follows another clock, the test's or the real one. A leap changes the time without passing through
 * the moments between: sleeps that were due meanwhile end late, all at once, in the order in which they
 * were due. Sleeps on the clock below are not affected.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"

export interface LeapClock extends Clock.Clock {
  readonly leap: (millis: number) => void
}

interface Sleep {
  readonly due: number
  readonly wake: () => void
  /** Cancels the sleep on the clock below. */
  readonly interrupt: () => void
}

const nanosPerMilli = 1_000_000n

/**
 * `afterwards` runs after each sleep, where the clock below can see it: `TestClock` moves to the next
 * sleep once all effects of the last one have happened.
 */
export const make = (afterwards: Effect.Effect<void>): Effect.Effect<LeapClock> =>
  Effect.gen(function* () {
    const base = yield* Clock.Clock
    const runFork = Effect.runForkWith(yield* Effect.context<never>())
    const sleeps = new Set<Sleep>()
    let ahead = 0
    let aheadNanos = 0n

    const millis = () => base.currentTimeMillisUnsafe() + ahead
    const nanos = () => base.currentTimeNanosUnsafe() + aheadNanos
    const monotonic = () => base.monotonicTimeNanosUnsafe() + aheadNanos

    const sleep = (duration: Duration.Duration) =>
      Effect.callback<void>((resume) => {
        let sleeper: Fiber.Fiber<void> | undefined
        const entry: Sleep = {
          due: millis() + Duration.toMillis(duration),
          wake: () => {
            if (sleeps.delete(entry)) resume(Effect.void)
          },
          interrupt: () => sleeper?.interruptUnsafe()
        }
        sleeps.add(entry)
        // The sleep may end at once.
        sleeper = runFork(
          base
            .sleep(duration)
            .pipe(Effect.andThen(Effect.sync(entry.wake)), Effect.andThen(afterwards))
        )
        return Effect.sync(() => {
          sleeps.delete(entry)
          entry.interrupt()
        })
      })

    return {
      currentTimeMillisUnsafe: millis,
      currentTimeMillis: Effect.sync(millis),
      currentTimeNanosUnsafe: nanos,
      currentTimeNanos: Effect.sync(nanos),
      monotonicTimeNanosUnsafe: monotonic,
      monotonicTimeNanos: Effect.sync(monotonic),
      sleep,
      leap: (by) => {
        ahead += by
        aheadNanos += BigInt(Math.round(by)) * nanosPerMilli
        const now = millis()
        const late = [...sleeps].filter(({ due }) => due <= now)
        for (const { interrupt, wake } of late.toSorted((one, other) => one.due - other.due)) {
          interrupt()
          wake()
        }
      }
    }
  })
