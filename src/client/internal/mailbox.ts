/**
 * Carries values from synchronous code into a Stream.
 *
 * The writer pushes whole batches and never waits; the reader takes everything that is there, so a
 * burst costs one wake-up. A writer that must not grow it looks at `size` and clears it: what a loss
 * means, only the writer knows.
 *
 * @since 0.1.0
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Stream from "effect/Stream"

export interface Mailbox<in A, in E = never> {
  readonly push: (batch: ReadonlyArray<A>) => void
  /** What was pushed before is still read, then the reader fails. */
  readonly fail: (error: E) => void
  readonly size: () => number
  readonly clear: () => void
}

/**
 * A Stream of what `register` pushes. Each run registers anew, before its first pull returns, and
 * deregisters when it ends.
 */
export const stream = <A, E = never>(
  register: (mailbox: Mailbox<A, E>) => () => void
): Stream.Stream<A, E> =>
  Stream.unwrap(
    Effect.gen(function* () {
      let buffer: Array<A> = []
      let end: Exit.Exit<never, E> | undefined
      let reader: (() => void) | undefined
      const wake = () => {
        const waiting = reader
        reader = undefined
        waiting?.()
      }
      const take: Effect.Effect<NonEmptyReadonlyArray<A>, E> = Effect.suspend(() => {
        if (buffer.length > 0) {
          const batch = buffer as unknown as NonEmptyReadonlyArray<A>
          buffer = []
          return Effect.succeed(batch)
        }
        return end ?? wait
      })
      const wait: typeof take = Effect.callback((resume) => {
        reader = () => resume(take)
        return Effect.sync(() => {
          reader = undefined
        })
      })
      yield* Effect.acquireRelease(
        Effect.sync(() =>
          register({
            push: (batch) => {
              if (batch.length === 0) return
              if (buffer.length === 0) buffer = [...batch]
              else for (const value of batch) buffer.push(value)
              wake()
            },
            fail: (error) => {
              end = Exit.fail(error)
              wake()
            },
            size: () => buffer.length,
            clear: () => {
              buffer = []
            }
          })
        ),
        (deregister) => Effect.sync(deregister)
      )
      return Stream.fromPull(Effect.succeed(take))
    })
  )
