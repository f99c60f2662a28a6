/**
 * What is read once serves everybody who asks for the same as long as somebody has it: a storm of
 * clients that come back reads the database once, and what they get is the same objects, so that it is
 * decoded and encoded once too.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"

/** Somebody's hold on what was read for them: `end` it when nothing of it is needed any more. */
export class Lease {
  #ended = false
  #giveBack: (() => void) | undefined

  /** What `end` gives back; at once when it has ended already. */
  hold(giveBack: () => void): void {
    this.#giveBack?.()
    this.#giveBack = undefined
    if (this.#ended) giveBack()
    else this.#giveBack = giveBack
  }

  end(): void {
    this.#ended = true
    this.#giveBack?.()
    this.#giveBack = undefined
  }
}

/** Something under way, or read and held. */
interface Running<A, E> {
  readonly result: Deferred.Deferred<A, E>
  holders: number
  fiber: Fiber.Fiber<void> | undefined
  /** Gives back what it keeps. */
  free: () => void
}

/** How to read something: `free` is told what gives back what it keeps once it is there. */
export type Reading<A, E> = (keeps: (free: () => void) => void) => Effect.Effect<A, E>

export class SharedReads<A, E> {
  readonly #scope: Scope.Scope
  readonly #running = new Map<string, Running<A, E>>()
  /** Whether a result may be given to who asks later. */
  readonly #lasts: (result: A) => boolean

  /** Reads in this scope: who shares it must not lose it with the one who asked first. */
  constructor(scope: Scope.Scope, lasts: (result: A) => boolean) {
    this.#scope = scope
    this.#lasts = lasts
  }

  /** What is under this key, or is read for it; kept until the lease ends, or not at all without one. */
  get(key: string, read: Reading<A, E>, lease: Lease | undefined): Effect.Effect<A, E> {
    return Effect.uninterruptibleMask((restore) =>
      Effect.gen({ self: this }, function* () {
        const one = this.#running.get(key) ?? (yield* this.#begin(key, read))
        one.holders++
        let held = true
        const giveBack = () => {
          if (!held) return
          held = false
          this.#leave(key, one)
        }
        const exit = yield* Effect.exit(restore(Deferred.await(one.result)))
        if (Exit.isSuccess(exit) && lease !== undefined) lease.hold(giveBack)
        else giveBack()
        return yield* exit
      })
    )
  }

  #begin(key: string, read: Reading<A, E>): Effect.Effect<Running<A, E>> {
    return Effect.gen({ self: this }, function* () {
      const one: Running<A, E> = {
        result: Deferred.makeUnsafe(),
        holders: 0,
        fiber: undefined,
        free: () => undefined
      }
      this.#running.set(key, one)
      const reading = read((free) => {
        one.free = free
      })
      one.fiber = yield* Effect.interruptible(reading).pipe(
        Effect.onExit((exit) =>
          Effect.sync(() => {
            const lasts = Exit.isSuccess(exit) && this.#lasts(exit.value)
            if (!lasts) {
              this.#forget(key, one)
              one.free()
            }
            Deferred.doneUnsafe(one.result, exit)
          })
        ),
        Effect.exit,
        Effect.asVoid,
        Effect.forkIn(this.#scope)
      )
      return one
    })
  }

  /** The last one who leaves ends what is under way. */
  #leave(key: string, one: Running<A, E>): void {
    if (--one.holders > 0) return
    this.#forget(key, one)
    one.fiber?.interruptUnsafe()
    one.free()
  }

  #forget(key: string, one: Running<A, E>): void {
    if (this.#running.get(key) === one) this.#running.delete(key)
  }
}
