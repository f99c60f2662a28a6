/**
 * Shares one read among all callers with the same request, for as long as one of them holds the result.
 * When many clients reconnect at once, the node reads the database once. The callers get the same objects,
 * so these are decoded and encoded once too.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"

/** A caller's hold on what was read for it: call `end` when it no longer needs the result. */
export class Lease {
  #ended = false
  #giveBack: (() => void) | undefined

  /** What `end` releases; released at once when the lease has ended already. */
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

/** A read in progress, or its result. */
interface Running<A, E> {
  readonly result: Deferred.Deferred<A, E>
  holders: number
  fiber: Fiber.Fiber<void> | undefined
  /** Releases what the result keeps. */
  free: () => void
}

/** A read. It calls `keeps` with the function that releases what it keeps. */
export type Reading<A, E> = (keeps: (free: () => void) => void) => Effect.Effect<A, E>

export class SharedReads<A, E> {
  readonly #scope: Scope.Scope
  readonly #running = new Map<string, Running<A, E>>()
  /** Whether a later caller may get the result. */
  readonly #lasts: (result: A) => boolean

  /** Reads run in this scope: they go on when the caller that began one is interrupted. */
  constructor(scope: Scope.Scope, lasts: (result: A) => boolean) {
    this.#scope = scope
    this.#lasts = lasts
  }

  /** Returns the result under this key, or reads it. Kept until the lease ends; without one not kept. */
  get(key: string, read: Reading<A, E>, lease: Lease | undefined): Effect.Effect<A, E> {
    return Effect.uninterruptibleMask((restore) =>
      Effect.gen({ self: this }, function* () {
        const known = this.#running.get(key)
        const one = known ?? this.#add(key)
        // In this step: while the read begins, another caller may come and leave.
        const giveBack = this.#hold(key, one)
        if (known === undefined) yield* this.#begin(key, one, read)
        const exit = yield* Effect.exit(restore(Deferred.await(one.result)))
        if (Exit.isSuccess(exit) && lease !== undefined) lease.hold(giveBack)
        else giveBack()
        return yield* exit
      })
    )
  }

  /** One holder more. Returns the function that ends its hold. */
  #hold(key: string, one: Running<A, E>): () => void {
    one.holders++
    let held = true
    return () => {
      if (!held) return
      held = false
      this.#leave(key, one)
    }
  }

  #add(key: string): Running<A, E> {
    const one: Running<A, E> = {
      result: Deferred.makeUnsafe(),
      holders: 0,
      fiber: undefined,
      free: () => undefined
    }
    this.#running.set(key, one)
    return one
  }

  #begin(key: string, one: Running<A, E>, read: Reading<A, E>): Effect.Effect<void> {
    return Effect.gen({ self: this }, function* () {
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
    })
  }

  /** The last holder interrupts the read. */
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
