/**
 * A mark in what a source hands out: a notification that the node sends to itself through the database.
 *
 * PostgreSQL delivers in the order of commits. So everything that was committed before the mark was sent has
 * been handed out when it arrives, on a link that is behind that of another node too.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import { randomUUID } from "node:crypto"
import type { NotificationSource } from "../../server/NotificationSource.ts"

/** Milliseconds that a mark has, until the node sends another one. */
const patience = 2000
const againAfter = 100

/**
 * Completes once the source has handed out everything that was committed before the call. Waits while the
 * source is down. Calls that come together share a mark.
 */
export const make = (
  inner: NotificationSource["Service"]
): Effect.Effect<Effect.Effect<void>, never, Scope.Scope> =>
  Effect.gen(function* () {
    const asked = yield* Queue.unbounded<Deferred.Deferred<void>>()

    const mark = Effect.gen(function* () {
      const name = `realtime_mark_${randomUUID()}`
      const arrived = yield* Deferred.make<void>()
      yield* inner.listen(name, () => Deferred.doneUnsafe(arrived, Effect.void))
      yield* inner.notify(name, "")
      yield* Deferred.await(arrived)
      // Each channel has a fiber of its own: those of earlier notifications were woken before.
      yield* Effect.yieldNow
      yield* Effect.yieldNow
    }).pipe(
      Effect.scoped,
      Effect.timeout(patience),
      Effect.tapError(() => Effect.sleep(againAfter)),
      Effect.eventually
    )

    yield* Effect.gen(function* () {
      const waiting = yield* Queue.takeAll(asked)
      yield* mark
      for (const one of waiting) Deferred.doneUnsafe(one, Effect.void)
    }).pipe(Effect.forever, Effect.forkScoped)

    return Effect.gen(function* () {
      const done = yield* Deferred.make<void>()
      yield* Queue.offer(asked, done)
      yield* Deferred.await(done)
    })
  })
