/**
 * A clock that can leap, as the clock of a machine does that slept.
 *
 * It follows another clock, the test's or the real one. A leap moves what time it is without passing
 * through the moments between: the sleeps that ended meanwhile end late, all at once, in the order in
 * which they were due. Sleeps on the clock below are not moved.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"

export interface LeapClock extends Clock.Clock {
  readonly leap: (millis: number) => void
}

interface Sleep {
  readonly due: number
  readonly over: Latch.Latch
}

const nanosPerMilli = 1_000_000n

export const make: Effect.Effect<LeapClock> = Effect.map(Clock.Clock, (base) => {
  const sleeps = new Set<Sleep>()
  let ahead = 0
  let aheadNanos = 0n

  const millis = () => base.currentTimeMillisUnsafe() + ahead
  const nanos = () => base.currentTimeNanosUnsafe() + aheadNanos
  const monotonic = () => base.monotonicTimeNanosUnsafe() + aheadNanos

  return {
    currentTimeMillisUnsafe: millis,
    currentTimeMillis: Effect.sync(millis),
    currentTimeNanosUnsafe: nanos,
    currentTimeNanos: Effect.sync(nanos),
    monotonicTimeNanosUnsafe: monotonic,
    monotonicTimeNanos: Effect.sync(monotonic),
    sleep: (duration) =>
      Effect.suspend(() => {
        const sleep = {
          due: millis() + Duration.toMillis(duration),
          over: Latch.makeUnsafe()
        }
        sleeps.add(sleep)
        return Effect.raceFirst(base.sleep(duration), sleep.over.await).pipe(
          Effect.ensuring(Effect.sync(() => sleeps.delete(sleep)))
        )
      }),
    leap: (by) => {
      ahead += by
      aheadNanos += BigInt(Math.round(by)) * nanosPerMilli
      const now = millis()
      const late = [...sleeps].filter(({ due }) => due <= now)
      for (const { over } of late.toSorted((one, other) => one.due - other.due)) over.openUnsafe()
    }
  }
})
