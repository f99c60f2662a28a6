/**
 * One session of the reader, from its first query to its loss: what it opens, hears, and does next.
 *
 * It looks, pauses and looks again; `readTicks.ts` reads, `lookSchedule.ts` decides when. Now and then it
 * opens the outbox again, because its settings and its identity may change, and requests upkeep.
 */
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Queue from "effect/Queue"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import type { SqlError } from "effect/sql/SqlError"
import { NotInstalled, OutdatedInstall } from "../../PgInstaller.ts"
import { NotPrimary } from "../link/databaseRefusal.ts"
import type { Feeding } from "../feed/feeding.ts"
import type { PgLink } from "../link/pgLink.ts"
import { isMissing, isStandby } from "../link/sqlState.ts"
import { openStatement } from "../sql/identity.ts"
import { schemaVersion } from "../sql/schema.ts"
import { wakeChannel } from "../sql/schemaName.ts"
import { nextWakes } from "../sql/wake.ts"
import type { Looked, Pace, Wake } from "./lookSchedule.ts"
import type { OldestTransaction } from "./oldestTransaction.ts"
import { OtherOutbox, type OutboxFault } from "./outboxErrors.ts"
import { Broken, type Standing, type TickOptions, make as ticksOf } from "./readTicks.ts"
import type { Tail } from "./tail.ts"
import * as Upkeep from "./upkeep.ts"

export interface SessionOptions extends Omit<TickOptions, "onLook" | "readsAll"> {
  /** `poll` when the reader never LISTENs, whatever the database's settings say. */
  readonly wake: "poll" | undefined
  /** The most milliseconds between two positions for every follower; a quiet channel needs them. */
  readonly positionInterval: number
  readonly pace: Pace
  readonly upkeep: Upkeep.Upkeep
  /**
   * The identity of the outbox of the pool, `undefined` when the pool does not answer now. Absent where the
   * pool has the same address.
   */
  readonly poolIdentity: Effect.Effect<string | undefined> | undefined
}

/** What all sessions of a reader share. */
export interface Lasting extends Standing {
  /** The secret of the database. */
  secret: string
  readonly oldest: OldestTransaction
  /** The node's part in the feed. */
  feeding: Feeding
  /** The callers that wait for the next position. */
  waiting: Array<Deferred.Deferred<Tail, OutboxFault>>
  /** Whether a session was up. */
  wasUp: boolean
  /** When every follower received a position, in milliseconds since 1970. */
  toldAt: number
}

export type SessionError = SqlError | OutboxFault | Broken

/** Planning a look would take longer than the look; compiling it, much longer. */
const settingsOfSession = `select set_config('plan_cache_mode', 'force_generic_plan', false), set_config('jit', 'off', false)`

/** How often the pool is asked for its outbox, until it answers. */
const poolEvery = "10 seconds"

/** Reads until the session is lost. `listening` closes with it. */
export const work = (
  link: PgLink,
  schema: string,
  options: SessionOptions,
  lasting: Lasting,
  listening: Scope.Scope,
  other: Deferred.Deferred<never, OtherOutbox>,
  onUp: Effect.Effect<void>
): Effect.Effect<never, SessionError> =>
  Effect.gen(function* () {
    const { beat, followers, pace, patience, upkeep } = options
    const { feeding } = lasting
    const ticks = ticksOf(link, lasting, {
      ...options,
      readsAll: feeding.reads,
      onLook: feeding.sent
    })
    yield* feeding.begin

    const opened = Effect.gen(function* () {
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
      lasting.secret = String(kept?.["secret"])
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

    let settings = yield* opened
    // After a loss the pool may be down too: the reader does not wait for it.
    if (lasting.wasUp || !(yield* comparedWith(settings.identity))) {
      yield* comparedWith(settings.identity).pipe(
        Effect.repeat({ until: (known) => known, schedule: Schedule.spaced(poolEvery) }),
        Effect.catch((error) => Deferred.fail(other, error)),
        Effect.forkIn(listening)
      )
    }
    let openedAt = yield* Clock.currentTimeMillis
    /** Open while the session LISTENs. */
    let hearing: Scope.Closeable | undefined
    const listen = Effect.gen(function* () {
      // Behind a transaction pooler the settings would apply to the session of another client.
      if (settings.wake === "poll" || hearing !== undefined) return
      yield* link.query(settingsOfSession, [], beat)
      const own = yield* Scope.fork(listening)
      const wakes = yield* Scope.provide(link.listen(wakeChannel(schema)), own)
      hearing = own
      // The session did not hear changes from before its LISTEN.
      openedAt = 0
      yield* Queue.takeAll(wakes).pipe(
        Effect.tap((found) => {
          if (found.some(({ payload }) => payload === "settings")) openedAt = 0
          return found.every(({ payload }) => payload === nextWakes)
            ? Effect.sync(pace.nudge)
            : pace.silence
        }),
        Effect.forever({ disableYield: true }),
        Effect.ignore,
        // The session is gone, which only a query detects.
        Effect.ensuring(Effect.sync(pace.nudge)),
        Effect.forkIn(own)
      )
    })
    /** PostgreSQL wakes each session that LISTENs at every NOTIFY: one that is fed needs none. */
    const unlisten = Effect.suspend(() => {
      const own = hearing
      hearing = undefined
      return own === undefined ? Effect.void : Scope.close(own, Exit.void)
    })
    yield* listen
    yield* ticks.start(settings)
    yield* onUp
    yield* feeding.opened(settings.identity)
    // Commits from before the LISTEN sent no wake to this session.
    yield* pace.silence
    let looked: Looked | undefined
    while (true) {
      yield* ticks.finish(settings)
      // Here the tick is handed out whole: a fed node may have a part of the next one after the pause.
      const before = yield* Clock.currentTimeMillis
      // Early enough that the last position is never older than the oldest message kept.
      if (before - lasting.toldAt >= Math.min(options.positionInterval, settings.retention / 4)) {
        lasting.toldAt = before
        const { end, tick } = lasting.tail!
        followers.tell({ _tag: "Position", cursor: end, tick })
      }
      const next = yield* feeding.pause(
        pace.pause(settings.wake, looked),
        () => lasting.waiting.length > 0
      )
      const time = yield* Clock.currentTimeMillis
      if (time - openedAt >= Upkeep.every(settings.retention)) {
        openedAt = time
        settings = yield* opened
        if (yield* ticks.stands(settings)) upkeep.due(lasting.tail!.taken, settings.retention)
        yield* feeding.opened(settings.identity)
      }
      if (next !== "look") {
        lasting.oldest.see(undefined)
        yield* next === "rest" ? unlisten : ticks.reach(settings, next)
        continue
      }
      yield* listen
      // A caller that asks from here on waits for the next position.
      const served = lasting.waiting
      lasting.waiting = []
      looked = yield* ticks
        .look(settings, (tail) => {
          for (const one of served) Deferred.doneUnsafe(one, Effect.succeed(tail))
        })
        .pipe(Effect.tapCause(() => Effect.sync(() => lasting.waiting.push(...served))))
      lasting.oldest.see(looked)
    }
  }).pipe(Effect.ensuring(lasting.feeding.end))
