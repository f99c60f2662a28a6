/**
 * A clock that a test can move without firing timers, like a sleeping laptop: `jump` moves the time,
 * `TestClock.adjust` moves the time and fires timers. On the real clock sleeps keep their length.
 */
import { Clock, Effect } from "effect"

export const sleepy = Effect.gen(function* () {
  const clock = yield* Clock.Clock
  let slept = 0
  const layered: Clock.Clock = Object.assign(Object.create(clock) as Clock.Clock, {
    currentTimeMillisUnsafe: () => clock.currentTimeMillisUnsafe() + slept,
    currentTimeMillis: Effect.sync(() => clock.currentTimeMillisUnsafe() + slept),
    sleep: clock.sleep.bind(clock)
  })
  return {
    clock: layered,
    jump: (millis: number) => {
      slept += millis
    }
  }
})
