/**
 * A clock that a test can move without firing a timer, as a sleeping laptop does: `jump` moves what
 * time it is, `TestClock.adjust` moves time and fires timers. On the real clock sleeps stay as long.
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
