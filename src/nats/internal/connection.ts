/**
 * The one connection of a node to NATS.
 *
 * In: servers and what proves the node to them. Out: texts to subjects and from them, and whether the
 * connection is up. It reconnects for ever, after a rejected login too, and its subscriptions survive
 * that. It queues nothing: what cannot leave now is refused, and what arrives goes to its subscriber in the
 * same step. What is missed while it reconnects is missed: each part above numbers its messages.
 */
import {
  AuthorizationError,
  connect,
  type NatsConnection as Library,
  PermissionViolationError,
  type Subscription,
  UserAuthenticationExpiredError
} from "@nats-io/transport-node"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Data from "effect/Data"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Metric from "effect/Metric"
import type * as Scope from "effect/Scope"
import * as SubscriptionRef from "effect/SubscriptionRef"
import { errorText } from "../../internal/errorText.ts"
import { tlsCodes } from "../../server/internal/link/databaseRefusal.ts"
import { Defects, Notices } from "../../server/internal/notices.ts"
import * as metrics from "../../server/internal/metrics.ts"
import { Outage } from "../../server/internal/outage.ts"
import { tally } from "../../server/internal/tally.ts"
import * as Reconnecting from "../../server/internal/reconnecting.ts"
import { type NatsDeaf, NatsForbidden, NatsRefused, NatsUnreachable } from "./connectionErrors.ts"
import type { ResolvedConnection } from "./connectionOptions.ts"
import { echoes, isProbe, type Refusals } from "./proof.ts"

/**
 * Receives what arrives on a subject, in order and in the same step. The bytes are a part of a larger
 * buffer: read them now. It must return soon and never throw.
 *
 * @category models
 * @since 0.1.0
 */
export type Hear = (data: Uint8Array, subject: string) => void

/**
 * The connection of a node to NATS, which `NatsBus` and the other layers of this subpath share.
 *
 * @category models
 * @since 0.1.0
 */
export interface Connection {
  /** What all subjects begin with. */
  readonly root: string
  /** Whether NATS answers. Each `up` is another connection: what was sent before it may be missed. */
  readonly state: SubscriptionRef.SubscriptionRef<"up" | "down">
  /** The bytes of the largest message, as the present server says; of the last one while it is down. */
  readonly maxPayload: () => number
  /**
   * Sends to a subject. `false` when the message did not leave: the connection is down, the message is
   * larger than `maxPayload`, or 16 MiB have left that NATS has not confirmed.
   */
  readonly publish: (subject: string, payload: string | Uint8Array) => boolean
  /**
   * Calls `hear` with what arrives on a subject, until the scope closes, over every reconnect. Completes at
   * once; `flush` waits until NATS knows it.
   */
  readonly subscribe: (subject: string, hear: Hear) => Effect.Effect<void, never, Scope.Scope>
  /**
   * Waits until NATS has handled all that was sent before, at most that many milliseconds. Succeeds with
   * `false` when it did not answer in time, or the connection is down.
   */
  readonly flush: (millis: number) => Effect.Effect<boolean>
  /** Opens another connection: the present one delivers nothing. */
  readonly renew: Effect.Effect<void>
  /**
   * Publishes to each subject and waits at most 2 s until all texts returned. Fails with the first subject
   * that did not work. Succeeds without a look while the connection is down.
   */
  readonly prove: (subjects: ReadonlyArray<string>) => Effect.Effect<void, NatsDeaf | NatsForbidden>
}

/** NATS did not answer a heartbeat, or the node gave the connection up itself. */
class ConnectionLost extends Data.TaggedError("ConnectionLost")<{ readonly reason: string }> {
  override get message(): string {
    return this.reason
  }
}

/** Bytes that left and that NATS has not confirmed. */
const maxUnconfirmed = 16 * 1_048_576
/** Bytes after which the node asks for a confirmation. */
const confirmEvery = 262_144
/** Milliseconds between two lines about one subject that NATS refuses. */
const refusedEvery = 3_600_000
/** Until the first connect. */
const usualMaxPayload = 1_048_576

interface Heard {
  readonly subject: string
  readonly hear: Hear
  /** In the present connection; `undefined` when NATS refused it. */
  subscription: Subscription | undefined
}

const isRefusal = (error: unknown): boolean =>
  error instanceof AuthorizationError ||
  error instanceof UserAuthenticationExpiredError ||
  (error instanceof Error && "code" in error && tlsCodes.test(String(error.code)))

export const make = ({
  beat,
  library,
  patience,
  policy,
  root,
  servers,
  startWithout
}: ResolvedConnection): Effect.Effect<Connection, NatsRefused | NatsUnreachable, Scope.Scope> =>
  Effect.gen(function* () {
    const runFork = Effect.runForkWith(yield* Effect.context<never>())
    const clock = yield* Clock.Clock
    const state = yield* SubscriptionRef.make<"up" | "down">("down")
    yield* (yield* tally).show("natsUp", () => (SubscriptionRef.getUnsafe(state) === "up" ? 1 : 0))
    const started = yield* Deferred.make<void, NatsRefused | NatsUnreachable>()
    const listeners = new Set<Heard>()
    const renewing = Latch.makeUnsafe(false)
    /** Proofs that run now. */
    const refusals: Refusals = new Set()
    let proving = 0
    let present: Library | undefined
    let maxPayload = usualMaxPayload
    let unconfirmed = 0
    let confirming = false

    const logged = (line: Effect.Effect<void>): void => {
      runFork(Effect.annotateLogs(line, "component", "effect-realtime nats"))
    }
    const defects = new Defects()

    /** Subjects whose refusal was logged. */
    const said = new Notices(refusedEvery)
    const forbidden = (error: PermissionViolationError): void => {
      for (const told of refusals) told(error)
      const what = `${error.operation} ${error.subject}`
      if (proving > 0 || said.due(what, clock.currentTimeMillisUnsafe()) === undefined) return
      const operation = error.operation === "publish" ? "publish" : "subscribe"
      logged(Effect.logWarning(new NatsForbidden({ operation, subject: error.subject }).message))
    }

    const sub = (to: Library, one: Heard): void => {
      const callback = (error: Error | null, message: { data: Uint8Array; subject: string }) => {
        if (error !== null) return void (one.subscription = undefined)
        const { data, subject } = message
        if (isProbe(data)) return
        try {
          one.hear(data, subject)
        } catch (defect) {
          // The library would read nothing more.
          logged(defects.logged("A part of this node over NATS", defect))
        }
      }
      try {
        one.subscription = to.subscribe(one.subject, { callback })
      } catch {
        // It has closed meanwhile, and the next connection subscribes.
        one.subscription = undefined
      }
    }

    /** Whether NATS handled all that was sent on a connection before. */
    const flushOf = (to: Library, millis: number): Effect.Effect<boolean> =>
      Effect.tryPromise(() => to.flush()).pipe(
        Effect.timeout(millis),
        Effect.as(true),
        Effect.catch(() => Effect.succeed(false))
      )

    const opened = Effect.acquireRelease(
      Effect.callback<Library, unknown>((resume) => {
        let over = false
        const opening = Promise.resolve().then(() => connect(library()))
        opening.then(
          (made) => (over ? abandon(made) : resume(Effect.succeed(made))),
          (error: unknown) => resume(Effect.fail(error))
        )
        return Effect.sync(() => void (over = true))
      }),
      (made) => Effect.sync(() => abandon(made)),
      { interruptible: true }
    )

    let wasUp = false

    /** One connection, from connect to loss. */
    const session = (onUp: Effect.Effect<void>) =>
      Effect.gen(function* () {
        const made = yield* opened
        const end = yield* Deferred.make<never, ConnectionLost>()
        const lost = (reason: string) =>
          Deferred.doneUnsafe(end, Effect.fail(new ConnectionLost({ reason })))
        made.closed().then((error) => lost(errorText(error ?? "NATS closed the connection")), noop)
        watch(made, forbidden)
        renewing.closeUnsafe()
        unconfirmed = 0
        confirming = false
        // One step: a part that subscribes before it or after it does so once.
        yield* Effect.acquireRelease(
          Effect.sync(() => {
            present = made
            for (const one of listeners) sub(made, one)
          }),
          () =>
            Effect.suspend(() => {
              present = undefined
              return SubscriptionRef.set(state, "down")
            })
        )
        if (!(yield* flushOf(made, patience))) {
          return yield* new ConnectionLost({ reason: "NATS does not answer" })
        }
        maxPayload = made.info?.max_payload ?? maxPayload
        yield* onUp
        if (wasUp) yield* Metric.update(metrics.natsReconnects, 1)
        wasUp = true
        yield* SubscriptionRef.set(state, "up")
        yield* Deferred.succeed(started, undefined)
        const beating = Effect.gen(function* () {
          while (true) {
            yield* Effect.sleep(beat)
            // What NATS refused may be granted since.
            for (const one of listeners) if (one.subscription === undefined) sub(made, one)
            if (!(yield* flushOf(made, patience))) {
              return yield* new ConnectionLost({
                reason: `NATS did not answer a heartbeat within ${patience} ms`
              })
            }
          }
        })
        const renewed = Effect.andThen(
          renewing.await,
          Effect.fail(new ConnectionLost({ reason: "it delivers nothing" }))
        )
        return yield* Effect.raceAllFirst([Deferred.await(end), beating, renewed])
      }).pipe(Effect.scoped)

    const onFailure = (cause: Cause.Cause<unknown>) =>
      Effect.gen(function* () {
        const error = Cause.squash(cause)
        if (!Deferred.isDoneUnsafe(started)) {
          if (isRefusal(error))
            yield* Deferred.fail(started, new NatsRefused({ servers, cause: error }))
          else if (startWithout) yield* Deferred.succeed(started, undefined)
          else yield* Deferred.fail(started, new NatsUnreachable({ servers, cause: error }))
        }
        return { reason: errorText(error), lasts: isRefusal(error) }
      })

    const reconnecting = yield* Reconnecting.make(policy, {
      fromStart: false,
      outage: new Outage({
        lost: "The connection to NATS is down",
        back: "The connection to NATS is back"
      })
    })
    yield* reconnecting(session, onFailure).pipe(
      Effect.annotateLogs("component", "effect-realtime nats"),
      Effect.forkScoped
    )

    const publish: Connection["publish"] = (subject, payload) => {
      const bytes = typeof payload === "string" ? Buffer.byteLength(payload) : payload.length
      const to = present
      if (to === undefined || bytes > limit() || unconfirmed + bytes > maxUnconfirmed) return false
      try {
        to.publish(subject, payload)
      } catch {
        return false
      }
      unconfirmed += bytes + subject.length
      if (unconfirmed >= confirmEvery && !confirming) confirm(to)
      return true
    }

    const limit = () => (maxPayload = present?.info?.max_payload ?? maxPayload)

    const confirm = (to: Library): void => {
      confirming = true
      const left = unconfirmed
      const confirmed = () => {
        if (to !== present) return
        unconfirmed -= left
        confirming = false
      }
      to.flush().then(confirmed, noop)
    }

    const subscribe: Connection["subscribe"] = (subject, hear) =>
      Effect.asVoid(
        Effect.acquireRelease(
          Effect.sync(() => {
            const one: Heard = { subject, hear, subscription: undefined }
            listeners.add(one)
            if (present !== undefined) sub(present, one)
            return one
          }),
          (one) =>
            Effect.sync(() => {
              listeners.delete(one)
              if (one.subscription?.isClosed() === false) one.subscription.unsubscribe()
            })
        )
      )

    const flush: Connection["flush"] = (millis) =>
      Effect.suspend(() =>
        present === undefined ? Effect.succeed(false) : flushOf(present, millis)
      )

    const prove: Connection["prove"] = (subjects) =>
      Effect.suspend(() => {
        const to = present
        return to === undefined || subjects.length === 0
          ? Effect.void
          : Effect.acquireUseRelease(
              Effect.sync(() => void proving++),
              () => echoes(to, subjects, refusals),
              () => Effect.sync(() => void proving--)
            )
      })

    yield* Deferred.await(started)
    const renew = Effect.sync(() => renewing.openUnsafe())
    return { root, state, maxPayload: limit, publish, subscribe, flush, renew, prove }
  })

/** Never waits: the socket of a dead connection closes late. */
const abandon = (made: Library): void => {
  made.close().catch(noop)
}

const noop = (): void => undefined

/** Hands on what NATS refuses, until the connection closes. */
const watch = (made: Library, refused: (error: PermissionViolationError) => void): void => {
  const reading = async () => {
    for await (const status of made.status()) {
      if (status.type === "error" && status.error instanceof PermissionViolationError) {
        refused(status.error)
      }
    }
  }
  reading().catch(noop)
}
