/**
 * Proves that a node may use its subjects: it publishes to each, and waits until all texts returned.
 *
 * NATS answers no SUB and no PUB, and reports a missing permission later, if at all.
 */
import {
  type NatsConnection as Library,
  PermissionViolationError,
  type Subscription
} from "@nats-io/transport-node"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import { randomUUID } from "node:crypto"
import { NatsDeaf, NatsForbidden } from "./connectionErrors.ts"

/** What each refusal of a connection is handed to. */
export type Refusals = Set<(error: PermissionViolationError) => void>

/** Milliseconds for the echoes. */
const patience = 2000

const start = Buffer.from("probe ")

/** Whether a node sent it as a proof: no other subscriber receives such. */
export const isProbe = (data: Uint8Array): boolean =>
  data.length >= start.length && start.equals(data.subarray(0, start.length))

export const echoes = (
  to: Library,
  subjects: ReadonlyArray<string>,
  refusals: Refusals
): Effect.Effect<void, NatsDeaf | NatsForbidden> =>
  Effect.gen(function* () {
    const done = yield* Deferred.make<void, NatsDeaf | NatsForbidden>()
    const text = `${start.toString()}${randomUUID()}`
    const missing = new Set(subjects)
    const refused = ({ operation, subject }: PermissionViolationError): void => {
      if (!missing.has(subject)) return
      const what = operation === "publish" ? "publish" : "subscribe"
      Deferred.doneUnsafe(done, Effect.fail(new NatsForbidden({ operation: what, subject })))
    }
    const heard = (subject: string, data: Uint8Array): void => {
      if (Buffer.from(data).toString() !== text) return
      missing.delete(subject)
      if (missing.size === 0) Deferred.doneUnsafe(done, Effect.void)
    }
    const subscribed = (subject: string): Subscription =>
      to.subscribe(subject, {
        callback: (error, message) => {
          if (error instanceof PermissionViolationError) refused(error)
          else if (error === null) heard(subject, message.data)
        }
      })
    const subscriptions: Array<Subscription> = []
    yield* Effect.acquireRelease(
      Effect.sync(() => refusals.add(refused)),
      () =>
        Effect.sync(() => {
          refusals.delete(refused)
          for (const one of subscriptions) if (!one.isClosed()) one.unsubscribe()
        })
    )
    for (const subject of subjects) subscriptions.push(subscribed(subject))
    for (const subject of subjects) to.publish(subject, text)
    yield* Deferred.await(done).pipe(
      Effect.timeoutOrElse({
        duration: patience,
        orElse: () => {
          const [subject] = missing
          // Without its connection a node proves nothing.
          return subject === undefined || to.isClosed()
            ? Effect.void
            : Effect.fail(new NatsDeaf({ subject, waited: patience }))
        }
      })
    )
  }).pipe(
    Effect.scoped,
    // The library throws on a connection that has closed.
    Effect.catchDefect((defect) => (to.isClosed() ? Effect.void : Effect.die(defect)))
  )
