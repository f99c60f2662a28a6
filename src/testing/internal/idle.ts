/**
 * Knows when the fibers of a system have nothing left to do but wait.
 *
 * A scheduler that counts what it was given and has not run. Fibers that were started with another
 * scheduler, and promises, are not seen; they get a few turns of the event loop to show themselves.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Scheduler from "effect/Scheduler"

export interface Idle {
  readonly scheduler: Scheduler.Scheduler
  /** Completes when nothing was to do for so many turns of the event loop in a row. */
  readonly quiet: (turns: number) => Effect.Effect<void>
}

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
    // On the scheduler below: it must not be kept busy by its own looking, nor by another's.
    quiet: (turns) =>
      Effect.gen(function* () {
        for (let quiet = 0; quiet < turns; quiet++) {
          yield* Effect.yieldNow
          if (scheduled > 0) quiet = -1
        }
      }).pipe(Effect.provideService(Scheduler.Scheduler, base))
  }
})
