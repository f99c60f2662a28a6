/**
 * The reader of the outbox: one per node, for all durable channels.
 *
 * It holds one PostgreSQL session beside the pool, takes positions on it and hands every follower of a
 * channel the batches in between, each with its cursor. A cursor is its only memory: whatever happens
 * to the session, the next one goes on from there. Resuming somebody else's cursor runs on the pool.
 * It decodes nothing and knows no subscribers: that is `Realtime`. What it reads is put into the
 * database by `PgInstaller`.
 *
 * @since 0.1.0
 */
import { PgClient } from "@effect/sql-pg/PgClient"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import type * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import type { SqlError } from "effect/sql/SqlError"
import type * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as Backoff from "../Backoff.ts"
import * as CatchUp from "./internal/catchUp.ts"
import { NotPrimary, type OutboxFault, type ReplayError } from "./internal/faults.ts"
import { durableStream } from "./internal/durableStream.ts"
import * as Outbox from "./internal/outbox.ts"
import { type OutboxPublishError, publish } from "./internal/outboxPublish.ts"
import { Pace } from "./internal/pace.ts"
import * as PgLink from "./internal/pgLink.ts"
import { isMissing, sqlMessage } from "./internal/sqlState.ts"
import { batchesOf, type DurableGap, Followers, type Item, Tail } from "./internal/tail.ts"
import * as Upkeep from "./internal/upkeep.ts"
import { schemaVersion } from "./internal/sql/schema.ts"
import type { SourceState } from "./NotificationSource.ts"
import { NotInstalled, OutdatedInstall } from "./PgInstaller.ts"

export {
  /**
   * @category models
   * @since 0.1.0
   */
  type Bounds,
  /**
   * @category models
   * @since 0.1.0
   */
  type Join,
  /**
   * @category models
   * @since 0.1.0
   */
  type ResetReason
} from "./internal/catchUp.ts"
export {
  /**
   * @category errors
   * @since 0.1.0
   */
  NotPrimary,
  /**
   * @category errors
   * @since 0.1.0
   */
  type OutboxFault,
  /**
   * @category errors
   * @since 0.1.0
   */
  ReplayError
} from "./internal/faults.ts"
export {
  /**
   * @category errors
   * @since 0.1.0
   */
  type OutboxPublishError,
  /**
   * @category errors
   * @since 0.1.0
   */
  PublishRefused
} from "./internal/outboxPublish.ts"
export {
  /**
   * @category models
   * @since 0.1.0
   */
  type DurableBatch,
  /**
   * @category models
   * @since 0.1.0
   */
  type DurableEvent,
  /**
   * @category models
   * @since 0.1.0
   */
  type DurableGap,
  /**
   * @category models
   * @since 0.1.0
   */
  type DurablePosition,
  /**
   * @category models
   * @since 0.1.0
   */
  type Item
} from "./internal/tail.ts"

/**
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /**
   * Where the reader connects, default: where the `PgClient` connects. Give the direct address of the
   * primary here when the pool goes through a transaction pooler.
   */
  readonly readUrl?: Redacted.Redacted | undefined
  /**
   * `poll` never LISTENs, whatever the database's setting: for a reader behind a transaction pooler.
   * Default: what the database says (`PgInstaller.install({ wake })`).
   */
  readonly wake?: "poll" | undefined
  /**
   * Time between two looks while nothing happens, default 1 s (250 ms when polling). Each is also the
   * heartbeat of the session.
   */
  readonly idle?: Duration.Input | undefined
  /** Time between two looks while something happens, default 5 ms. */
  readonly busy?: Duration.Input | undefined
  /**
   * Time PostgreSQL has to answer a heartbeat, default 2 s; ten times that for a page of messages. At
   * the limit the session is cut and opened again.
   */
  readonly heartbeatTimeout?: Duration.Input | undefined
  /** When to connect again, default `Backoff.link`: full jitter, 100 ms doubling to 10 s, for ever. */
  readonly backoff?: Backoff.Policy | undefined
  /** The most messages of a page, default 1,000; a page is what is read and handed out in one step. */
  readonly pageMessages?: number | undefined
  /** The size at which a page ends, default 1 MiB (1,048,576 bytes); the message that crosses it is included. */
  readonly pageBytes?: number | undefined
  /**
   * Batches (of at most 64 KiB or one event) that a slow consumer of `batches` may leave lying, default
   * 64. Beyond it they are dropped, and it catches up from its cursor when it gets there.
   */
  readonly backlog?: number | undefined
  /** How often followers of quiet channels are told a newer position, default 10 minutes. */
  readonly positionEvery?: Duration.Input | undefined
  /** Whether this node helps to prune, default `true`. At least one node must. */
  readonly upkeep?: boolean | undefined
}

/**
 * @category services
 * @since 0.1.0
 */
export class OutboxReader extends Context.Service<
  OutboxReader,
  {
    /**
     * Everything that is handed out on a channel from now on, until the scope closes. Completes once the
     * reader stands somewhere: what is committed after that arrives. Waits for as long as PostgreSQL is
     * away. The queue is unbounded: take from it at once.
     */
    readonly follow: (
      channel: string
    ) => Effect.Effect<Queue.Dequeue<Item>, OutboxFault, Scope.Scope>
    /**
     * Where a subscriber starts. Call `follow` before: of what it hands out, the batches of ticks later
     * than the join's belong to this subscriber, after the replay; earlier ones do not. Nothing is
     * replayed in part: with more than `bounds` to replay (default 10,000 events or 8 MiB) it is a reset.
     */
    readonly join: (
      channel: string,
      from: string | undefined,
      bounds?: CatchUp.Bounds
    ) => Effect.Effect<CatchUp.Join, OutboxFault | ReplayError>
    /**
     * The batches of a channel for one consumer, from a cursor or from now on: paged, without bound, and
     * never more than a few pages in memory, however slow the consumer. Goes on after any failure of the
     * database. Without a cursor the first item is the position where it starts; a cursor that cannot be
     * honoured gives a gap first. Batches of a replay have the tick 0.
     */
    readonly batches: (
      channel: string,
      options?: { readonly from?: string | undefined }
    ) => Stream.Stream<Item, OutboxFault>
    /**
     * Publishes JSON text on a channel, in the caller's transaction when there is one. The same key with
     * the same text is published once, also across a crash.
     */
    readonly publish: (
      channel: string,
      json: string,
      key?: string
    ) => Effect.Effect<void, OutboxPublishError>
    /** A position that contains everything committed before this was asked. */
    readonly position: Effect.Effect<string, OutboxFault>
    readonly state: SubscriptionRef.SubscriptionRef<SourceState>
  }
>()("effect-realtime/server/OutboxReader") {}

/** Something other than a query failed in a session: it is retried like everything else. */
class Broken extends Schema.TaggedError<Broken>()("Broken", { cause: Schema.Defect() }) {
  override get message(): string {
    return sqlMessage(this.cause)
  }
}

type SessionError = SqlError | OutboxFault | Broken

/**
 * Opens the session in the background. Completes at once: while PostgreSQL is away the state is `down`
 * and everybody waits; while the objects are missing or the database is a standby, everybody is told.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (
  options?: Options
): Effect.Effect<OutboxReader["Service"], never, PgClient | Scope.Scope> =>
  Effect.gen(function* () {
    const sql = yield* PgClient
    const beat = Duration.fromInputUnsafe(options?.heartbeatTimeout ?? "2 seconds")
    const patience = Duration.times(beat, 10)
    const limits = {
      messages: options?.pageMessages ?? 1000,
      bytes: options?.pageBytes ?? 1024 * 1024
    }
    const positionEvery = Duration.toMillis(
      Duration.fromInputUnsafe(options?.positionEvery ?? "10 minutes")
    )
    const linkOptions: PgLink.LinkOptions = {
      connection: PgLink.connectionOf(sql.config, options?.readUrl),
      heartbeat: beat,
      heartbeatTimeout: beat,
      name: "effect-realtime reader",
      prepare: true
    }
    const state = yield* SubscriptionRef.make<SourceState>("down")
    const followers = new Followers()
    const pace = yield* Pace.make({
      busy: Duration.toMillis(Duration.fromInputUnsafe(options?.busy ?? 5)),
      idle:
        options?.idle === undefined
          ? undefined
          : Duration.toMillis(Duration.fromInputUnsafe(options.idle))
    })
    const upkeep = yield* Upkeep.make(sql, options?.upkeep !== false)

    let tail: Tail | undefined
    /** Holds the tail while the reader is up, a fault while waiting is no use. */
    let up = Deferred.makeUnsafe<Tail, OutboxFault>()
    /** Who waits for the next end to be taken. */
    let waiting: Array<Deferred.Deferred<Tail, OutboxFault>> = []
    let toldAt = yield* Clock.currentTimeMillis

    const attempt = <A>(evaluate: () => A): Effect.Effect<A, Broken> =>
      Effect.try({ try: evaluate, catch: (cause) => new Broken({ cause }) })

    const opened = Effect.fnUntraced(function* (link: PgLink.PgLink) {
      const rows = yield* link
        .query("select * from realtime.open()", [], patience)
        .pipe(Effect.catchIf(isMissing, (cause) => Effect.fail(new NotInstalled({ cause }))))
      const row = rows[0]
      const installed = Number(row?.["version"] ?? 0)
      if (installed < schemaVersion) {
        return yield* new OutdatedInstall({ installed, needed: schemaVersion })
      }
      const identity = row?.["identity"]
      if (typeof identity !== "string") return yield* new NotPrimary()
      if (row?.["restored"] === true) {
        yield* Effect.logWarning(
          "The database is a copy of another one: its old messages were deleted, and cursors of the other one are answered reset."
        )
      }
      return {
        identity,
        wake: options?.wake ?? (row?.["wake"] as "hybrid" | "notify" | "poll"),
        retention: Number(row?.["retention_ms"])
      }
    })

    const take = (link: PgLink.PgLink): Effect.Effect<Outbox.Take, SqlError | Broken> =>
      Effect.flatMap(link.query(Outbox.takeStatement, [], beat), (rows) =>
        attempt(() => Outbox.parseTake(rows[0]))
      )

    /** A first position, or one after which nothing from before holds. */
    const begin = Effect.fnUntraced(function* (
      link: PgLink.PgLink,
      identity: string,
      reason: DurableGap["reason"]
    ) {
      const pairs = yield* link.query(
        "select next::text n, drawn::text l from realtime.marks order by at",
        [],
        patience
      )
      const fresh = new Tail(
        identity,
        yield* take(link),
        (tail?.tick ?? 0) + 1,
        pairs.map((row) => [BigInt(String(row["n"])), BigInt(String(row["l"]))])
      )
      const before = tail
      tail = fresh
      if (before !== undefined) {
        yield* Effect.logWarning(`Every durable subscriber is told a gap: ${reason}`)
        followers.tell({ _tag: "Gap", reason, cursor: fresh.end, tick: fresh.tick })
      }
    })

    /** Hands out the rest of the tick in progress; returns how many messages there were. */
    const finish = Effect.fnUntraced(function* (link: PgLink.PgLink, now: Tail) {
      let count = 0
      for (const leg of Outbox.legs(now.position, now.taken.snapshot)) {
        let { id } = leg
        let more = !Outbox.isEmpty(leg) && now.channels.length > 0
        while (more) {
          const next = { ...leg, id }
          const scope = now.channels.length > manyChannels ? "all" : "some"
          const rows = yield* link.query(
            Outbox.pageStatement[scope],
            Outbox.pageArguments(
              next,
              now.floors.of(leg.at),
              limits,
              scope === "all" ? undefined : now.channels
            ),
            patience
          )
          const read = yield* attempt(() => Outbox.parsePage(rows, next))
          if (read.page === "retention") return "retention" as const
          // In one step: who has a batch and where the reader stands never disagree.
          for (const batch of batchesOf(read.page, next, now.position, now.identity, now.tick)) {
            followers.hand(batch)
          }
          now.position = read.page.position
          count += read.page.messages.length
          id = read.id
          more = read.more
        }
        now.position = { base: leg.to, next: undefined, id: 0n }
      }
      return count
    })

    /** Settings may change, and the identity with them when somebody restored a backup. */
    const work = Effect.fnUntraced(function* (
      link: PgLink.PgLink,
      listening: Scope.Scope,
      onUp: Effect.Effect<void>
    ) {
      let settings = yield* opened(link)
      let lookedAt = yield* Clock.currentTimeMillis
      let listens = false
      const listen = Effect.gen(function* () {
        // Behind a transaction pooler a setting of the session would be somebody else's.
        if (settings.wake === "poll" || listens) return
        yield* link.query("set jit = off", [], beat)
        const wakes = yield* Scope.provide(link.listen("realtime"), listening)
        listens = true
        // A change that was told before this was not heard.
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
          Effect.forkIn(listening)
        )
      })
      yield* listen
      if (tail?.identity !== settings.identity) yield* begin(link, settings.identity, "source")
      yield* onUp
      while (true) {
        const now = tail!
        const count = yield* finish(link, now)
        if (count === "retention") {
          yield* begin(link, settings.identity, "retention")
          continue
        }
        yield* pace.pause(settings.wake, count > 0)
        const time = yield* Clock.currentTimeMillis
        if (time - toldAt >= positionEvery) {
          toldAt = time
          followers.tell({ _tag: "Position", cursor: now.end, tick: now.tick })
        }
        if (time - lookedAt >= Upkeep.every(settings.retention)) {
          lookedAt = time
          settings = yield* opened(link)
          if (settings.identity !== now.identity) {
            yield* begin(link, settings.identity, "source")
            continue
          }
          yield* listen
          upkeep.due(now.taken, settings.retention)
        }
        // Who asks from here on is not served by this snapshot.
        const served = waiting
        waiting = []
        const taken = yield* Effect.tapCause(take(link), () =>
          Effect.sync(() => waiting.push(...served))
        )
        now.advance(taken, followers.channels)
        for (const one of served) Deferred.doneUnsafe(one, Effect.succeed(now))
      }
    })

    /** One session from connect to loss. */
    const session = (onUp: Effect.Effect<void>): Effect.Effect<never, SessionError> =>
      Effect.gen(function* () {
        const link = yield* PgLink.open(linkOptions)
        const listening = yield* Scope.fork(yield* Effect.scope)
        const running = yield* Effect.forkScoped(work(link, listening, onUp))
        // Registered last, so it runs first: an UNLISTEN or a cancelled query would wait for a dead
        // server, but not on a destroyed socket.
        yield* Effect.addFinalizer(() => Effect.sync(link.destroy))
        return yield* Fiber.join(running)
      }).pipe(Effect.scoped)

    const backoff = yield* Backoff.make(options?.backoff ?? Backoff.link)
    yield* Effect.gen(function* () {
      while (true) {
        let upAt: number | undefined
        const onUp = Effect.gen(function* () {
          upAt = yield* Clock.currentTimeMillis
          if (Deferred.isDoneUnsafe(up)) up = Deferred.makeUnsafe()
          Deferred.doneUnsafe(up, Effect.succeed(tail!))
          yield* SubscriptionRef.set(state, "up")
          yield* Effect.logDebug("The reader of the outbox stands")
        })
        // Retried on any failure, never by its tag: a terminated backend reports an unknown error.
        const failed = yield* Effect.result(session(onUp))
        const error = Result.isFailure(failed) ? failed.failure : undefined
        const fault = isFault(error) ? error : undefined
        if (Deferred.isDoneUnsafe(up)) up = Deferred.makeUnsafe()
        if (fault !== undefined) {
          Deferred.doneUnsafe(up, Effect.fail(fault))
          for (const one of waiting) Deferred.doneUnsafe(one, Effect.fail(fault))
          waiting = []
        }
        yield* SubscriptionRef.set(state, "down")
        const now = yield* Clock.currentTimeMillis
        const delay = yield* backoff.delay(upAt === undefined ? 0 : now - upAt)
        yield* Effect.logWarning(
          `The reader of the outbox is down, next try in ${Math.round(delay)} ms: ${fault?.message ?? sqlMessage(error)}`
        )
        yield* Effect.sleep(delay)
      }
    }).pipe(Effect.annotateLogs("component", "effect-realtime reader"), Effect.forkScoped)

    const current: Effect.Effect<Tail, OutboxFault> = Effect.suspend(() =>
      Effect.flatMap(Deferred.await(up), () =>
        // The session may have begun anew since.
        Effect.sync(() => tail!)
      )
    )
    const refreshed: Effect.Effect<Tail, OutboxFault> = Effect.suspend(() => {
      const one = Deferred.makeUnsafe<Tail, OutboxFault>()
      waiting.push(one)
      pace.nudge()
      return Effect.andThen(Deferred.await(one), current)
    })
    const catchUp = yield* CatchUp.make(sql, limits, patience, current, refreshed)

    const follow: OutboxReader["Service"]["follow"] = (channel) =>
      Effect.gen(function* () {
        const queue = yield* Queue.unbounded<Item>()
        const follower = { offer: (item: Item) => void Queue.offerUnsafe(queue, item) }
        yield* Effect.acquireRelease(
          Effect.sync(() => followers.add(channel, follower)),
          () =>
            Effect.suspend(() => {
              followers.remove(channel, follower)
              return Queue.shutdown(queue)
            })
        )
        yield* current
        return queue
      })

    return OutboxReader.of({
      follow,
      join: catchUp.join,
      batches: (channel, from) =>
        durableStream({
          channel,
          from: from?.from,
          backlog: options?.backlog ?? 64,
          followers,
          current,
          catchUp
        }),
      publish: (channel, json, key) => publish(sql, channel, json, key),
      position: Effect.map(refreshed, (now) => now.end),
      state
    })
  })

/** With more channels than this followed, all messages are read: most are wanted then. */
const manyChannels = 64

const isFault = (error: unknown): error is OutboxFault =>
  error instanceof NotInstalled || error instanceof OutdatedInstall || error instanceof NotPrimary

/**
 * Needs the app's `PgClient`: its address for the session, its pool for replays and upkeep.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options?: Options): Layer.Layer<OutboxReader, never, PgClient> =>
  Layer.effect(OutboxReader, make(options))
