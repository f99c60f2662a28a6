/**
 * Carries values from synchronous code into a Stream.
 *
 * The writer pushes whole batches and never waits; the reader takes everything that is there, so a
 * burst costs one wake-up. A writer that must not grow it looks at `size` and replaces all of it: what a
 * loss means, only the writer knows.
 *
 * @since 0.1.0
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"

export interface Inbox<in A, in E = never> {
  readonly push: (batch: ReadonlyArray<A>) => void
  /** What was pushed before is still read, then the reader fails. */
  readonly fail: (error: E) => void
  readonly size: () => number
  /** Pushes a batch in the place of all that waits. */
  readonly replace: (batch: ReadonlyArray<A>) => void
}

/**
 * A Stream of what `register` pushes. Each run registers anew, before its first pull returns, and
 * deregisters when it ends.
 */
export const stream = <A, E = never>(
  register: (inbox: Inbox<A, E>) => () => void
): Stream.Stream<A, E> =>
  Stream.unwrap(
    Effect.gen(function* () {
      let buffer: Array<A> = []
      let end: Effect.Effect<never, E> | undefined
      /** Gives the waiting reader everything that is there. */
      let deliver: (() => void) | undefined
      const take = Effect.callback<NonEmptyReadonlyArray<A>, E>((resume) => {
        deliver = () => {
          const batch = buffer as unknown as NonEmptyReadonlyArray<A>
          const taken = buffer.length > 0 ? Effect.succeed(batch) : end
          if (taken === undefined) return
          buffer = []
          deliver = undefined
          resume(taken)
        }
        deliver()
        return Effect.sync(() => {
          deliver = undefined
        })
      })
      yield* Effect.acquireRelease(
        Effect.sync(() =>
          register({
            push: (batch) => {
              for (const value of batch) buffer.push(value)
              deliver?.()
            },
            fail: (error) => {
              end = Effect.fail(error)
              deliver?.()
            },
            size: () => buffer.length,
            replace: (batch) => {
              buffer = [...batch]
              deliver?.()
            }
          })
        ),
        Effect.sync
      )
      return Stream.fromPull(Effect.succeed(take))
    })
  )
