/**
 * Builds a layer, and retries until it succeeds.
 *
 * The layers fail with an error when waiting cannot help. A server in an application's process must not
 * end it, so it retries and starts once an operator has repaired the database.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"

export interface PersistentOptions<in E> {
  /**
   * From the start of one attempt to the start of the next. After an attempt that takes longer the next
   * starts at once.
   */
  readonly every: Duration.Input
  /** Whether a later attempt may succeed. */
  readonly mayPass: (error: E) => boolean
  /** Runs after each attempt that may succeed later, with the milliseconds until the next. */
  readonly onFailed: (error: E, next: number) => Effect.Effect<void>
}

/** Fails only with an error that does not pass. */
export const persistent = <A, E>(
  layer: Layer.Layer<A, E>,
  options: PersistentOptions<E>
): Layer.Layer<A, E> =>
  Layer.effectContext(
    Effect.gen(function* () {
      const scope = yield* Effect.scope
      const every = Duration.toMillis(Duration.fromInputUnsafe(options.every))
      while (true) {
        const from = yield* Clock.currentTimeMillis
        const attempt = yield* Scope.fork(scope)
        // A fresh layer, because Effect would remember the failed one.
        const exit = yield* Effect.exit(Layer.buildWithScope(Layer.fresh(layer), attempt))
        if (Exit.isSuccess(exit)) return exit.value
        yield* Scope.close(attempt, exit)
        const error = Cause.findErrorOption(exit.cause)
        if (error._tag === "None" || !options.mayPass(error.value)) {
          return yield* Effect.failCause(exit.cause)
        }
        const next = Math.max(0, from + every - (yield* Clock.currentTimeMillis))
        yield* options.onFailed(error.value, next)
        yield* Effect.sleep(next)
      }
    })
  )
