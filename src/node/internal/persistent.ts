/**
 * Builds a layer again and again until it is there.
 *
 * The layers end with an error where waiting does not help them; a server that stands in somebody else's
 * process cannot end that, and is mended when somebody mends the database.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"

export interface PersistentOptions<in E> {
  /** From the start of one try to the start of the next; one that takes longer is followed by the next. */
  readonly every: Duration.Input
  /** Whether another try may end otherwise. */
  readonly mayPass: (error: E) => boolean
  /** Runs after each try that may end otherwise, with the milliseconds until the next. */
  readonly onFailed: (error: E, next: number) => Effect.Effect<void>
}

/** Fails only with what does not pass. */
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
        // Built anew: what failed would be remembered.
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
