/**
 * The reader of the outbox: its sessions, their faults and reconnects, and where it stands.
 *
 * `readerSession.ts` is one session. What outlives it is kept here, so that the next session continues where
 * the last one ended.
 */
import type { PgClientConfig } from "@effect/sql-pg/PgClient"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as SubscriptionRef from "effect/SubscriptionRef"
import type * as Backoff from "../../../Backoff.ts"
import type { SourceState } from "../../NotificationSource.ts"
import { DatabaseRefused, Doubt, explained, databaseRefusalOf } from "../link/databaseRefusal.ts"
import * as PgLink from "../link/pgLink.ts"
import { isDefect, Outage } from "../outage.ts"
import * as Reconnecting from "../reconnecting.ts"
import { SchemaName } from "../sql/schemaName.ts"
import { isFault, type OtherOutbox, type OutboxFault } from "./outboxErrors.ts"
import { type Lasting, type SessionError, type SessionOptions, work } from "./readerSession.ts"
import type { FeedCarrier } from "../../FeedCarrier.ts"
import * as Feeding from "../feed/feeding.ts"
import type { Leases } from "./lease.ts"
import { tally as tallyOfFiber } from "../tally.ts"
import { OldestTransaction } from "./oldestTransaction.ts"
import type { Tail } from "./tail.ts"

export interface ReaderOptions extends SessionOptions {
  readonly leases: Leases
  /** What feeds nodes with the looks of one of them; `undefined` where each reads for itself. */
  readonly carrier: FeedCarrier["Service"] | undefined
  readonly connection: PgClientConfig
  readonly backoff: Backoff.Policy
  /** How long the same refusal must last before the first session until it counts as lasting. */
  readonly startPatience: Duration.Input
}

export interface Reader {
  /** The tail once the reader is up. */
  readonly current: Effect.Effect<Tail, OutboxFault>
  /** The tail after the reader took a new position. */
  readonly refreshed: Effect.Effect<Tail, OutboxFault>
  /** The secret of the database. */
  readonly secret: Effect.Effect<string, OutboxFault>
  readonly state: SubscriptionRef.SubscriptionRef<SourceState>
  /** Completes with the first session, or when none is possible for now. Fails when PostgreSQL refuses all. */
  readonly started: Effect.Effect<void, DatabaseRefused>
  /** Fails, before the reader was up for the first time, when waiting does not help. */
  readonly refused: Effect.Effect<never, DatabaseRefused | OutboxFault>
}

/** Reads in the background until the scope closes. */
export const make = (options: ReaderOptions): Effect.Effect<Reader, never, Scope.Scope> =>
  Effect.gen(function* () {
    const schema = yield* SchemaName
    const { beat, pace } = options
    const state = yield* SubscriptionRef.make<SourceState>("down")
    /** Completes while the reader is up, or fails when waiting does not help. */
    let up = Deferred.makeUnsafe<void, OutboxFault>()
    const tally = yield* tallyOfFiber
    const isUp = () => SubscriptionRef.getUnsafe(state) === "up"
    yield* tally.show("readerUp", () => (isUp() ? 1 : 0))
    const clock = yield* Clock.Clock
    const seconds = () => Number(clock.monotonicTimeNanosUnsafe()) / 1e9
    let atPresent = seconds()
    options.followers.onPresent = () => {
      atPresent = seconds()
    }
    yield* tally.show("readerLag", () => seconds() - atPresent)
    const oldest = new OldestTransaction(seconds)
    // While the reader is down it does not see whether the transaction goes on.
    yield* tally.show("oldestTransaction", () => (isUp() ? oldest.age : 0))
    const lasting: Lasting = {
      feeding: Feeding.none,
      tail: undefined,
      inDoubt: false,
      oldest,
      secret: "",
      waiting: [],
      wasUp: false,
      toldAt: yield* Clock.currentTimeMillis
    }

    if (options.carrier !== undefined) {
      lasting.feeding = yield* Feeding.make(options.carrier, {
        tail: () => lasting.tail,
        followers: options.followers,
        leases: options.leases,
        pace
      })
    }

    /** One session from connect to loss. */
    const session = (onUp: Effect.Effect<void>): Effect.Effect<never, SessionError> =>
      Effect.gen(function* () {
        const link = yield* PgLink.open({
          connection: options.connection,
          heartbeat: beat,
          heartbeatTimeout: beat,
          name: "effect-realtime reader",
          schema,
          prepare: true
        })
        yield* Deferred.succeed(started, undefined)
        yield* options.leases.on(link)
        const listening = yield* Scope.fork(yield* Effect.scope)
        const other = yield* Deferred.make<never, OtherOutbox>()
        const running = yield* Effect.forkScoped(
          work(link, schema, options, lasting, listening, other, onUp)
        )
        // Registered last, so it runs first: an UNLISTEN or a cancelled query would wait for a dead server,
        // but not on a destroyed socket.
        yield* Effect.addFinalizer(() => Effect.sync(link.destroy))
        return yield* Effect.raceFirst(Fiber.join(running), Deferred.await(other))
      }).pipe(Effect.scoped)

    const started = yield* Deferred.make<void, DatabaseRefused>()
    const refused = yield* Deferred.make<never, DatabaseRefused | OutboxFault>()
    const doubt = new Doubt(options.startPatience)

    /** Records a failure from before the first session was up; fails the start once it lasts. */
    const judge = Effect.fnUntraced(function* (error: unknown, now: number) {
      const refusal = databaseRefusalOf(error, schema)
      doubt.note(refusal?.code ?? (isFault(error) ? error._tag : undefined), now)
      if (refusal === undefined) yield* Deferred.succeed(started, undefined)
      const believed = doubt.believed(now)
      if (believed === undefined) return
      if (refusal === undefined) {
        if (isFault(error)) yield* Deferred.fail(refused, error)
        return
      }
      const verdict = new DatabaseRefused({
        session: "reader of the outbox",
        ...refusal,
        ...believed
      })
      const late = !(yield* Deferred.fail(started, verdict))
      const first = yield* Deferred.fail(refused, verdict)
      // The layer did not fail with this error.
      if (late && first) yield* Effect.logError(verdict.message)
    })

    const following = (onUp: Effect.Effect<void>) =>
      session(
        Effect.gen(function* () {
          yield* onUp
          if (lasting.wasUp) tally.reconnects.reader++
          lasting.wasUp = true
          if (Deferred.isDoneUnsafe(up)) up = Deferred.makeUnsafe()
          Deferred.doneUnsafe(up, Effect.void)
          yield* SubscriptionRef.set(state, "up")
          yield* Effect.logDebug("The reader of the outbox stands")
        })
      )

    // Retries on any failure, never by its tag: a terminated backend reports an unknown error.
    const onFailure = <E>(cause: Cause.Cause<E>, now: number) =>
      Effect.gen(function* () {
        if (!Cause.hasFails(cause) && !Cause.hasDies(cause)) return yield* Effect.interrupt
        const error: unknown = Cause.squash(cause)
        if (isDefect(cause)) lasting.inDoubt = true
        const fault = isFault(error) ? error : undefined
        if (Deferred.isDoneUnsafe(up)) up = Deferred.makeUnsafe()
        if (fault !== undefined) {
          Deferred.doneUnsafe(up, Effect.fail(fault))
          for (const one of lasting.waiting) Deferred.doneUnsafe(one, Effect.fail(fault))
          lasting.waiting = []
        }
        yield* SubscriptionRef.set(state, "down")
        if (!lasting.wasUp) yield* judge(error, now)
        const why = fault?.message ?? explained(error, schema)
        return {
          delay: (usual: number) => (lasting.wasUp ? usual : doubt.delay(usual, now)),
          reason: why,
          lasts: fault !== undefined || databaseRefusalOf(error) !== undefined
        }
      })

    const reconnecting = yield* Reconnecting.make(options.backoff, {
      fromStart: false,
      name: "reader",
      outage: new Outage({
        lost: "The reader of the outbox is down",
        back: "The reader of the outbox is back"
      })
    })
    yield* reconnecting(following, onFailure).pipe(
      Effect.annotateLogs("component", "effect-realtime reader"),
      Effect.forkScoped
    )

    const current: Effect.Effect<Tail, OutboxFault> = Effect.suspend(() =>
      Effect.flatMap(Deferred.await(up), () =>
        // The session may have begun a new tail since.
        Effect.sync(() => lasting.tail!)
      )
    )
    const refreshed: Effect.Effect<Tail, OutboxFault> = Effect.suspend(() => {
      const one = Deferred.makeUnsafe<Tail, OutboxFault>()
      lasting.waiting.push(one)
      pace.nudge()
      return Effect.andThen(Deferred.await(one), current)
    })
    return {
      current,
      refreshed,
      secret: Effect.map(current, () => lasting.secret),
      state,
      started: Deferred.await(started),
      refused: Deferred.await(refused)
    }
  })
