/**
 * Finds out when the fibers of a system only wait.
 *
 * It is a scheduler that counts the tasks that it received and has not run. It does not see promises and
 * fibers of another scheduler, so it waits a few turns of the event loop for them.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Scheduler from "effect/Scheduler"

export interface Idle {
  readonly scheduler: Scheduler.Scheduler
  /** Completes after so many turns of the event loop in a row without a task. */
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
    // On the scheduler below, so that its own checks and those of others do not count as tasks.
    quiet: (turns) =>
      Effect.gen(function* () {
        for (let quiet = 0; quiet < turns; quiet++) {
          yield* Effect.yieldNow
          if (scheduled > 0) quiet = -1
        }
      }).pipe(Effect.provideService(Scheduler.Scheduler, base))
  }
})
