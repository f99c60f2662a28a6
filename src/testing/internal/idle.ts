/**
 * Knows when the fibers of a system have nothing left to do but wait.
 *
 * A scheduler that counts what it was given and has not run. Fibers that were started with another
 * scheduler are not seen.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Scheduler from "effect/Scheduler"

export interface Idle {
  readonly scheduler: Scheduler.Scheduler
  /** Completes once nothing can happen any more unless time passes or somebody else acts. */
  readonly settle: Effect.Effect<void>
}

/** So many looks in a row must find nothing: fibers that are not seen may be about to answer. */
const looks = 8

export const make: Effect.Effect<Idle> = Effect.map(Scheduler.Scheduler, (base) => {
  let scheduled = 0
  return {
    scheduler: {
      executionMode: base.executionMode,
      shouldYield: (fiber) => base.shouldYield(fiber),
      makeDispatcher: () => {
        const dispatcher = base.makeDispatcher()
        return {
          scheduleTask: (task, priority) => {
            scheduled++
            dispatcher.scheduleTask(() => {
              scheduled--
              task()
            }, priority)
          },
          flush: () => dispatcher.flush()
        }
      }
    },
    settle: Effect.gen(function* () {
      for (let quiet = 0; quiet < looks; quiet++) {
        yield* Effect.yieldNow
        if (scheduled > 0) quiet = -1
      }
    })
  }
})
