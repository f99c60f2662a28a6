/**
 * The session that reads the outbox: its loop, its faults, and its reconnects.
 *
 * The reader takes a position, hands out the messages up to it, pauses, and begins again. Its state is a
 * `Tail`, which outlives the session. The next session first finishes the tick in progress to the same end,
 * because subscribers have attached there. Before that it looks up the witness of that end: a crash, a
 * failover, a restore or pruning may have removed it, and then every durable subscriber gets a gap.
 */
import type { PgClientConfig } from "@effect/sql-pg/PgClient"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Queue from "effect/Queue"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import type { SqlError } from "effect/sql/SqlError"
import * as SubscriptionRef from "effect/SubscriptionRef"
import type * as Backoff from "../../../Backoff.ts"
import type { SourceState } from "../../NotificationSource.ts"
import { NotInstalled, OutdatedInstall } from "../../PgInstaller.ts"
import * as Cursor from "../../../internal/cursorText.ts"
import { openStatement } from "../sql/identity.ts"
import { isFault, OtherOutbox, type OutboxFault } from "./outboxErrors.ts"
import * as Lost from "./crashLoss.ts"
import * as Outbox from "./outbox.ts"
import { endOf, isEmpty, legs } from "./position.ts"
import type { Leases } from "./lease.ts"
import type { Pace, Wake } from "./lookSchedule.ts"
import * as PgLink from "../link/pgLink.ts"
import * as Reconnecting from "../reconnecting.ts"
import { schemaVersion } from "../sql/schema.ts"
import {
  DatabaseRefused,
  Doubt,
  explained,
  databaseRefusalOf,
  NotPrimary
} from "../link/databaseRefusal.ts"
import { isMissing, isStandby, sqlMessage } from "../link/sqlState.ts"
import { batchesOfPage, type DurableGap, type Followers, Tail } from "./tail.ts"
import * as Upkeep from "./upkeep.ts"
import { SchemaName, wakeChannel } from "../sql/schemaName.ts"

export interface ReaderOptions {
  readonly connection: PgClientConfig
  /** `poll` when the reader never LISTENs, whatever the database's settings say. */
  readonly wake: "poll" | undefined
  /** How long PostgreSQL may take to answer a heartbeat. */
  readonly beat: Duration.Duration
  /** How long it may take for a page. */
  readonly patience: Duration.Duration
  readonly backoff: Backoff.Policy
  readonly limits: Outbox.PageLimits
  /** The most milliseconds between two positions for every follower; a quiet channel needs them. */
  readonly positionInterval: number
  readonly followers: Followers
  readonly pace: Pace
  readonly upkeep: Upkeep.Upkeep
  readonly leases: Leases
  /** Whether the reader waits until everything that a position sees is flushed. */
  readonly flushed: boolean
  /**
   * The identity of the outbox of the pool, `undefined` when the pool does not answer now. Absent where the
   * pool has the same address.
   */
  readonly poolIdentity: Effect.Effect<string | undefined> | undefined
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

/** A failure in a session other than of a query; retried as the others are. */
class Broken extends Schema.TaggedError<Broken>()("Broken", { cause: Schema.Defect() }) {
  override get message(): string {
    return sqlMessage(this.cause)
  }
}

type SessionError = SqlError | OutboxFault | Broken

/** Reads in the background until the scope closes. */
export const make = (options: ReaderOptions): Effect.Effect<Reader, never, Scope.Scope> =>
  Effect.gen(function* () {
    const schema = yield* SchemaName
    const { beat, followers, limits, pace, patience, upkeep } = options
    const state = yield* SubscriptionRef.make<SourceState>("down")
    let tail: Tail | undefined
    let secret = ""
    /** Holds the tail while the reader is up, or a fault when waiting does not help. */
    let up = Deferred.makeUnsafe<Tail, OutboxFault>()
    /** The callers that wait for the next position. */
    let waiting: Array<Deferred.Deferred<Tail, OutboxFault>> = []
    let toldAt = yield* Clock.currentTimeMillis

    const attempt = <A>(evaluate: () => A): Effect.Effect<A, Broken> =>
      Effect.try({ try: evaluate, catch: (cause) => new Broken({ cause }) })

    const opened = Effect.fnUntraced(function* (link: PgLink.PgLink) {
      const rows = yield* link.query(openStatement, [], patience).pipe(
        Effect.catchIf(isMissing, (cause) =>
          // An earlier version has another function; without an install there is none.
          link.query("select version from realtime.settings", [], patience).pipe(
            Effect.mapError((error) =>
              isMissing(error) ? new NotInstalled({ cause, schema }) : error
            ),
            Effect.filterOrFail(
              ([row]) => Number(row?.["version"]) < schemaVersion,
              () => new NotInstalled({ cause, schema })
            )
          )
        ),
        Effect.catchIf(isStandby, () => Effect.fail(new NotPrimary()))
      )
      const row = rows[0]
      const installed = Number(row?.["version"] ?? 0)
      if (installed < schemaVersion) {
        return yield* new OutdatedInstall({ installed, needed: schemaVersion, schema })
      }
      const identity = row?.["identity"]
      if (row?.["era"] === null) return yield* new NotPrimary()
      if (typeof identity !== "string") {
        return yield* new Broken({
          cause: new Error(
            "realtime.settings has no row: a dump is being restored, or install again"
          )
        })
      }
      if (row?.["restored"] === true) {
        yield* Effect.logWarning(
          "The database is a copy of another one: its old messages were deleted, and cursors of the other one are reset."
        )
      }
      const [kept] = yield* link.query("select secret from realtime.settings", [], patience)
      secret = String(kept?.["secret"])
      return {
        identity,
        era: row?.["era"] as string,
        wake: options.wake ?? (row?.["wake"] as Wake),
        retention: Number(row?.["retention_ms"])
      }
    })

    /** Compares the pool's outbox with this one. Returns whether the pool answered. */
    const comparedWith = Effect.fnUntraced(function* (identity: string) {
      const other = yield* options.poolIdentity ?? Effect.succeed(identity)
      if (other !== undefined && other !== identity) return yield* new OtherOutbox()
      return other !== undefined
    })

    const take = Effect.fnUntraced(function* (link: PgLink.PgLink, before?: Outbox.Take) {
      const rows = yield* link.query(Outbox.takeStatement, [], beat)
      const taken = yield* attempt(() => Outbox.parseTaken(rows[0]))
      let last: Cursor.Witness | undefined
      // Equal snapshots see the same messages; most looks find nothing new.
      if (before === undefined || !isSame(before.snapshot, taken.snapshot)) {
        const args = Outbox.lastArguments(taken, before?.last)
        last = Outbox.parseWitness((yield* link.query(Outbox.lastStatement, args, patience))[0])
      }
      if (options.flushed) yield* Lost.flushed(link, taken.written, beat)
      return Outbox.takeOf(taken, last, before?.last)
    })

    /** Takes the first position, or a new one after a loss. */
    const begin = Effect.fnUntraced(function* (
      link: PgLink.PgLink,
      { era, identity }: { readonly identity: string; readonly era: string },
      reason: DurableGap["reason"]
    ) {
      const pairs = yield* link.query(
        "select next::text n, drawn::text l from realtime.marks order by at",
        [],
        patience
      )
      const fresh = new Tail(
        identity,
        era,
        yield* take(link),
        (tail?.tick ?? 0) + 1,
        pairs.map((row) => [BigInt(String(row["n"])), BigInt(String(row["l"]))])
      )
      const before = tail
      tail = fresh
      if (before !== undefined) {
        // In the step that sets the new tail: a subscriber that joins in between would get neither.
        followers.tell({ _tag: "Gap", reason, cursor: fresh.end, tick: fresh.tick })
        yield* Effect.logWarning(`Every durable subscriber receives a gap: ${reason}`)
      }
    })

    /** The reason of a gap, when the reader cannot continue at its tail. */
    const gapAt = (link: PgLink.PgLink, { identity, taken }: Tail, present: string) =>
      identity === present
        ? Lost.gapAt(link, taken, patience)
        : Effect.succeed<DurableGap["reason"]>("source")

    /**
     * Continues where the last session ended, if this database still has that position. In a new era events
     * that were handed out may still be lost: committed after the witness, and not flushed.
     */
    const resume = Effect.fnUntraced(function* (
      link: PgLink.PgLink,
      now: Tail,
      settings: { readonly identity: string; readonly era: string }
    ) {
      now.rest()
      const gap = yield* gapAt(link, now, settings.identity)
      if (gap !== undefined) return yield* begin(link, settings, gap)
      if (now.era === settings.era) return
      const count = yield* finish(link, now, settings.era)
      if (count === "retention") return yield* begin(link, settings, "retention")
      const channels = yield* Lost.channels(link, followers.remembered, patience)
      if (channels.size > 0) {
        const tick = now.interject()
        followers.tell({ _tag: "Gap", reason: "source", cursor: now.end, tick }, channels)
        yield* Effect.logWarning(
          `The database lost events of ${channels.size} durable channel(s) when it recovered: their subscribers receive a gap`
        )
      }
      now.era = settings.era
    })

    /** Hands out the rest of the tick in progress; returns the number of messages. */
    const finish = Effect.fnUntraced(function* (link: PgLink.PgLink, now: Tail, era = now.era) {
      let count = 0
      for (const leg of legs(now.position, now.taken)) {
        let { id } = leg
        let more = !isEmpty(leg) && now.channels.length > 0
        while (more) {
          const next = { ...leg, id }
          const scope = now.channels.length > manyChannels ? "all" : "some"
          const rows = yield* link.query(
            Outbox.pageStatement[scope],
            Outbox.pageArguments(
              next,
              now.floors.of(leg.at.snapshot),
              limits,
              scope === "all" ? undefined : now.channels
            ),
            patience
          )
          const read = yield* attempt(() => Outbox.parsePage(rows, next))
          const time = yield* Clock.currentTimeMillis
          if (read.database !== era) return yield* new Broken({ cause: new Error(newEra) })
          if (read.page === "retention") return "retention" as const
          // In one step, so that the followers' batches and the reader's position always agree.
          followers.page(
            now,
            batchesOfPage(read.page, next, now.position, now.identity, now.tick, followers.targets),
            read.more,
            time
          )
          now.position = read.page.position
          count += read.page.messages.length
          id = read.id
          more = read.more
        }
        now.position = endOf(leg)
      }
      now.finished = true
      followers.finish(now)
      return count
    })

    /** Settings may change; the identity changes with them when a backup is restored. */
    const work = Effect.fnUntraced(function* (
      link: PgLink.PgLink,
      listening: Scope.Scope,
      other: Deferred.Deferred<never, OtherOutbox>,
      onUp: Effect.Effect<void>
    ) {
      let settings = yield* opened(link)
      // After a loss the pool may be down too: the reader does not wait for it.
      if (wasUp || !(yield* comparedWith(settings.identity))) {
        yield* comparedWith(settings.identity).pipe(
          Effect.repeat({ until: (known) => known, schedule: Schedule.spaced(poolEvery) }),
          Effect.catch((error) => Deferred.fail(other, error)),
          Effect.forkIn(listening)
        )
      }
      let lookedAt = yield* Clock.currentTimeMillis
      let listens = false
      const listen = Effect.gen(function* () {
        // Behind a transaction pooler the setting would apply to the session of another client.
        if (settings.wake === "poll" || listens) return
        yield* link.query("set jit = off", [], beat)
        const wakes = yield* Scope.provide(link.listen(wakeChannel(schema)), listening)
        listens = true
        // The session did not hear changes from before its LISTEN.
        lookedAt = 0
        yield* Queue.takeAll(wakes).pipe(
          Effect.tap((found) =>
            Effect.sync(() => {
              if (found.some(({ payload }) => payload === "settings")) lookedAt = 0
              pace.nudge()
            })
          ),
          Effect.forever({ disableYield: true }),
          Effect.ignore,
          // The session is gone, which only a query detects.
          Effect.ensuring(Effect.sync(pace.nudge)),
          Effect.forkIn(listening)
        )
      })
      yield* listen
      if (tail === undefined) yield* begin(link, settings, "source")
      else yield* resume(link, tail, settings)
      yield* onUp
      // Commits from before the LISTEN sent no wake to this session.
      pace.nudge()
      while (true) {
        const now = tail!
        const count = yield* finish(link, now)
        if (count === "retention") {
          yield* begin(link, settings, "retention")
          continue
        }
        yield* pace.pause(settings.wake, count > 0)
        const time = yield* Clock.currentTimeMillis
        // Early enough that the last position is never older than the oldest message kept.
        if (time - toldAt >= Math.min(options.positionInterval, settings.retention / 4)) {
          toldAt = time
          followers.tell({ _tag: "Position", cursor: now.end, tick: now.tick })
        }
        if (time - lookedAt >= Upkeep.every(settings.retention)) {
          lookedAt = time
          settings = yield* opened(link)
          const gap = yield* gapAt(link, now, settings.identity)
          if (gap !== undefined) {
            yield* begin(link, settings, gap)
            continue
          }
          yield* listen
          upkeep.due(now.taken, settings.retention)
        }
        // A caller that asks from here on waits for the next snapshot.
        const served = waiting
        waiting = []
        const taken = yield* take(link, now.taken).pipe(
          // Behind a pooler a session may outlive the server that it was connected to.
          Effect.filterOrFail(
            (taken) => taken.era === now.era,
            () => new Broken({ cause: new Error(newEra) })
          ),
          Effect.tapCause(() => Effect.sync(() => waiting.push(...served)))
        )
        if (!Cursor.contains(taken.normal, now.taken.normal)) {
          // The witness is there, but another transaction that was over is not over here.
          waiting.push(...served)
          yield* begin(link, settings, "source")
          continue
        }
        now.advance(taken, followers.channels)
        for (const one of served) Deferred.doneUnsafe(one, Effect.succeed(now))
      }
    })

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
        const running = yield* Effect.forkScoped(work(link, listening, other, onUp))
        // Registered last, so it runs first: an UNLISTEN waits for a dead server, not on a destroyed socket.
        yield* Effect.addFinalizer(() => Effect.sync(link.destroy))
        return yield* Effect.raceFirst(Fiber.join(running), Deferred.await(other))
      }).pipe(Effect.scoped)

    const started = yield* Deferred.make<void, DatabaseRefused>()
    const refused = yield* Deferred.make<never, DatabaseRefused | OutboxFault>()
    const doubt = new Doubt(options.startPatience)
    let wasUp = false
    let told = ""

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
          wasUp = true
          told = ""
          if (Deferred.isDoneUnsafe(up)) up = Deferred.makeUnsafe()
          Deferred.doneUnsafe(up, Effect.succeed(tail!))
          yield* SubscriptionRef.set(state, "up")
          yield* Effect.logDebug("The reader of the outbox stands")
        })
      )

    // Retries on any failure, never by its tag: a terminated backend reports an unknown error.
    const onFailure = <E>(cause: Cause.Cause<E>, now: number) =>
      Effect.gen(function* () {
        const failed = Cause.findError(cause)
        if (Result.isFailure(failed)) return yield* Effect.failCause(failed.failure)
        const error = failed.success
        const fault = isFault(error) ? error : undefined
        if (Deferred.isDoneUnsafe(up)) up = Deferred.makeUnsafe()
        if (fault !== undefined) {
          Deferred.doneUnsafe(up, Effect.fail(fault))
          for (const one of waiting) Deferred.doneUnsafe(one, Effect.fail(fault))
          waiting = []
        }
        yield* SubscriptionRef.set(state, "down")
        if (!wasUp) yield* judge(error, now)
        const why = fault?.message ?? explained(error, schema)
        // A failure that lasts is logged once while it is the same.
        const lasts = fault !== undefined || databaseRefusalOf(error) !== undefined
        const known = lasts && told === why
        told = why
        return {
          delay: (usual: number) => (wasUp ? usual : doubt.delay(usual, now)),
          text: (delay: number) =>
            `The reader of the outbox is down, next try in ${delay} ms: ${why}`,
          known
        }
      })

    const reconnecting = yield* Reconnecting.make(options.backoff, { fromStart: false })
    yield* reconnecting(following, onFailure).pipe(
      Effect.annotateLogs("component", "effect-realtime reader"),
      Effect.forkScoped
    )

    // The session may have begun a new tail since.
    const current: Effect.Effect<Tail, OutboxFault> = Effect.suspend(() =>
      Effect.map(Deferred.await(up), () => tail!)
    )
    const refreshed: Effect.Effect<Tail, OutboxFault> = Effect.suspend(() => {
      const one = Deferred.makeUnsafe<Tail, OutboxFault>()
      waiting.push(one)
      pace.nudge()
      return Effect.andThen(Deferred.await(one), current)
    })
    return {
      current,
      refreshed,
      secret: Effect.map(current, () => secret),
      state,
      started: Deferred.await(started),
      refused: Deferred.await(refused)
    }
  })

const isSame = (a: Cursor.PgSnapshot, b: Cursor.PgSnapshot): boolean =>
  Cursor.contains(a, b) && Cursor.contains(b, a)

const newEra = "the database has restarted, recovered or was replaced"

/** Between two questions to the pool for its outbox. */
const poolEvery = "10 seconds"

/** With more channels than this followed, the reader reads all messages: it needs most of them then. */
const manyChannels = 64
