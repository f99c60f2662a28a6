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
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Queue from "effect/Queue"
import type * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import type * as SubscriptionRef from "effect/SubscriptionRef"
import * as Backoff from "../Backoff.ts"
import { outboxReader as Defaults } from "../internal/defaults.ts"
import * as CatchUp from "./internal/outbox/catchUp.ts"
import type { OutboxFault } from "./internal/outbox/faults.ts"
import { durableStream } from "./internal/outbox/durableStream.ts"
import { type OutboxPublishError, publish } from "./internal/outbox/outboxPublish.ts"
import { Pace } from "./internal/outbox/lookSchedule.ts"
import { sweeping } from "./internal/ring.ts"
import type { InvalidDatabaseUrl } from "./internal/link/databaseUrl.ts"
import * as PgLink from "./internal/link/pgLink.ts"
import { type DatabaseRefused, patienceOf } from "./internal/link/databaseRefusal.ts"
import * as Reader from "./internal/outbox/reader.ts"
import type { Lease } from "./internal/outbox/sharedReads.ts"
import { Followers, type Item } from "./internal/outbox/tail.ts"
import * as Settings from "./internal/outbox/readerOptions.ts"
import * as Upkeep from "./internal/outbox/upkeep.ts"
import { backoff, checked, type InvalidOption, millis } from "./internal/options.ts"
import * as Watched from "./internal/link/watched.ts"
import type { SourceState } from "./NotificationSource.ts"
import { isMissing } from "./internal/link/sqlState.ts"
import { openStatement } from "./internal/sql/identity.ts"
import { objects } from "./internal/sql/objects.ts"
import { SchemaName } from "./internal/sql/schemaName.ts"

export {
  /**
   * @category errors
   * @since 0.1.0
   */
  ReplaysOverloaded
} from "./internal/outbox/replayAdmission.ts"
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
   * @category errors
   * @since 0.1.0
   */
  type JoinError,
  /**
   * @category models
   * @since 0.1.0
   */
  type Part,
  /**
   * @category models
   * @since 0.1.0
   */
  type ResetReason
} from "./internal/outbox/catchUp.ts"
export {
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
} from "./internal/outbox/faults.ts"
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
} from "./internal/outbox/outboxPublish.ts"
export {
  /**
   * @category models
   * @since 0.1.0
   */
  Lease
} from "./internal/outbox/sharedReads.ts"
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
} from "./internal/outbox/tail.ts"

/**
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** The schema of the objects, default that of `SchemaName`, which is `realtime`. As for `PgInstaller`. */
  readonly schema?: string | undefined
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
  readonly idleInterval?: Duration.Input | undefined
  /** Time between two looks while something happens, default 5 ms. */
  readonly busyInterval?: Duration.Input | undefined
  /**
   * Time PostgreSQL has to answer a heartbeat, default 2 s; ten times that for a page of messages. At
   * the limit the session is cut and opened again.
   */
  readonly heartbeatTimeout?: Duration.Input | undefined
  /** When to connect again, default `Backoff.link`: at once after 30 s up, then full jitter, 100 ms doubling to 10 s, for ever. */
  readonly backoff?: Backoff.Policy | undefined
  /**
   * Time over which PostgreSQL must refuse before that is believed, default 10 s: until it was up once, a
   * wrong password, database or right, or TLS that is refused, fail the layer with `DatabaseRefused` when
   * three connections in a row were told the same for so long.
   */
  readonly startPatience?: Duration.Input | undefined
  /** The most messages of a page, default 1,000; a page is what is read and handed out in one step. */
  readonly maxPageMessages?: number | undefined
  /** The size at which a page ends, default 1 MiB (1,048,576 bytes); the message that crosses it is included. */
  readonly maxPageBytes?: number | undefined
  /**
   * Batches (of at most 64 KiB or one event) that a slow consumer of `batches` may leave lying, default
   * 64. Beyond it they are dropped, and it catches up from its cursor when it gets there.
   */
  readonly maxBacklog?: number | undefined
  /**
   * How often every follower is told a newer position, so that the cursor of a quiet channel does not
   * age out; default 1 hour, and a quarter of the retention where that is less. Sockets are told too.
   */
  readonly positionInterval?: Duration.Input | undefined
  /**
   * Events of a channel that this reader remembers of what it handed out, default 256, so that a session
   * that was away for a moment is not read from the table again. An older cursor is read from the table.
   */
  readonly maxMemoryEvents?: number | undefined
  /**
   * How long this reader remembers what it handed out, default 2 minutes. An older cursor is read from the
   * table. When PostgreSQL crashed, this reader looks whether what it remembers is still there, and tells a
   * gap where not; what it has forgotten it cannot look for.
   */
  readonly maxMemoryAge?: Duration.Input | undefined
  /**
   * What this reader remembers of all its channels together, default 64 MiB (67,108,864 bytes): about what
   * it takes of the heap, each event 128 bytes and each batch 256 and their texts (one byte for each UTF-16
   * unit). At the limit the channels that hold most forget first.
   */
  readonly maxMemoryBytes?: number | undefined
  /**
   * The most events that are replayed to a socket, default 10,000. With more behind it, it is told `reset`;
   * one that was too slow is told `gap slow`.
   */
  readonly maxReplayEvents?: number | undefined
  /** The most payload that is replayed to a socket, default 8 MiB (8,388,608 bytes of UTF-8). */
  readonly maxReplayBytes?: number | undefined
  /**
   * How many replays this node reads at once, default 8. Those who ask for the same share one; the next
   * ones wait, at most as long as `limits.sourceTimeout` of the server, then they are answered
   * `server/overloaded`.
   */
  readonly maxReplays?: number | undefined
  /**
   * How many replays wait for their turn on this node, default 1,000. One more is answered
   * `server/overloaded` with `retryAfter`, and fails with `ReplaysOverloaded` in the process.
   */
  readonly maxReplayQueue?: number | undefined
  /**
   * The payload that all replays of this node keep until it is sent, default 64 MiB (67,108,864 bytes of
   * UTF-8). One that is read counts with `maxReplayBytes` until it is known how many it has; what does not
   * fit waits like one too many.
   */
  readonly maxReplayMemory?: number | undefined
  /**
   * Whether only what PostgreSQL has flushed to disk is handed out, default `false`. A commit with
   * `synchronous_commit = off` can be seen up to 0.6 s before it is flushed, and a crash within that time
   * takes back what was told. With `true` a crash on one machine takes nothing back that was told, and such
   * commits are told so much later. A standby that was behind when it was promoted still may.
   */
  readonly flushed?: boolean | undefined
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
     * replayed in part: with more than `bounds` to replay (default `maxReplayEvents` and `maxReplayBytes`) it is a reset.
     * Somebody who asks for a `part` gets what they have room for, and joins again from the end of it while
     * there is `more`; what they know to have missed is held against the bounds. With a `lease`
     * what was read is kept, counted and shared until that ends, and there may be `more` as well: what
     * others read a moment ago. Fails with `ReplaysOverloaded` where too many wait.
     */
    readonly join: (
      channel: string,
      from: string | undefined,
      bounds?: CatchUp.Bounds,
      part?: CatchUp.Part,
      lease?: Lease
    ) => Effect.Effect<CatchUp.Join, CatchUp.JoinError>
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
    /** Logs when nothing of the table of this channel arrives here; absent where that cannot be known. */
    readonly checkTable?: (channel: string) => Effect.Effect<void>
    /**
     * Fails when it is known, before the reader was up for the first time, that waiting does not help; never
     * completes otherwise. The reader goes on trying all the same. Absent where that cannot be.
     */
    readonly refused?: Effect.Effect<never, DatabaseRefused | OutboxFault>
  }
>()("effect-realtime/server/OutboxReader") {}

/**
 * Why no session is opened: an option is none, the URL cannot be followed, or PostgreSQL refuses.
 *
 * @category errors
 * @since 0.1.0
 */
export type StartError = InvalidDatabaseUrl | InvalidOption | DatabaseRefused

/**
 * Opens the session, and keeps it open in the background.
 *
 * Completes with the first session, or when PostgreSQL could not be reached at the first try. While it is
 * away the state is `down` and everybody waits; while the objects are missing, the database is a standby, or
 * `readUrl` leads to another database than the pool, everybody is told. Fails with `InvalidOption` and `InvalidDatabaseUrl` at once, and with `DatabaseRefused` when PostgreSQL
 * refuses for `startPatience`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (
  options?: Options
): Effect.Effect<OutboxReader["Service"], StartError, PgClient | Scope.Scope> =>
  options?.schema === undefined
    ? opened(options)
    : Effect.provideService(opened(options), SchemaName, options.schema)

const opened = (
  options: Options | undefined
): Effect.Effect<OutboxReader["Service"], StartError, PgClient | Scope.Scope> =>
  Effect.gen(function* () {
    const schema = yield* SchemaName
    const sql = yield* PgClient
    const {
      backlog,
      backoff,
      beat,
      bounds,
      limits,
      patience,
      positionInterval,
      recent,
      times,
      together,
      until
    } = yield* checked(() => resolved(options ?? {}))
    const upkeep = options?.upkeep ?? Defaults.upkeep
    const followers = new Followers(recent)
    yield* sweeping(followers.budget)
    const { connection } = yield* Effect.fromResult(
      PgLink.secured(PgLink.connectionOf(sql.config, options?.readUrl))
    )
    yield* PgLink.compare(sql.config)
    const pool = yield* objects(sql)
    const { current, refreshed, refused, started, state } = yield* Reader.make({
      connection,
      poolIdentity: options?.readUrl === undefined ? undefined : identityOf(pool),
      wake: options?.wake,
      beat,
      patience,
      backoff,
      limits,
      positionInterval,
      followers,
      pace: yield* Pace.make(times),
      upkeep: yield* Upkeep.make(sql, upkeep),
      flushed: (options?.flushed ?? Defaults.flushed) === true,
      startPatience: until
    })
    const catchUp = yield* CatchUp.make(
      sql,
      limits,
      bounds,
      together,
      patience,
      followers,
      current,
      refreshed
    )
    const watched = yield* Watched.make(sql, "durable")
    if (upkeep) yield* Watched.looking(sql)

    const follow: OutboxReader["Service"]["follow"] = (channel) =>
      Effect.gen(function* () {
        const queue = yield* followers.follow(channel)
        yield* current
        yield* watched.compare(channel)
        return queue
      })

    yield* started
    return OutboxReader.of({
      follow,
      join: catchUp.join,
      batches: (channel, from) =>
        durableStream({
          channel,
          from: from?.from,
          backlog,
          followers,
          current: Effect.tap(current, () => watched.compare(channel)),
          catchUp
        }),
      publish: (channel, json, key) =>
        Effect.provideService(publish(sql, channel, json, key), SchemaName, schema),
      position: Effect.map(refreshed, (now) => now.end),
      state,
      checkTable: watched.compare,
      refused
    })
  })

/** The options with their defaults. Throws `InvalidOption`. */
const resolved = (options: Options) => {
  const beat = Duration.millis(
    millis("heartbeatTimeout", options.heartbeatTimeout ?? Defaults.heartbeatTimeout)
  )
  return {
    ...Settings.shared(options),
    together: Settings.together(options),
    beat,
    /** For a page. */
    patience: Duration.times(beat, 10),
    backoff: backoff(options.backoff ?? Backoff.link),
    times: {
      busy: millis("busyInterval", options.busyInterval ?? Defaults.busyInterval),
      idle:
        options.idleInterval === undefined
          ? undefined
          : millis("idleInterval", options.idleInterval)
    },
    until: patienceOf(options.startPatience)
  }
}

/** Of the outbox that a pool leads to; it is asked as every node asks first. */
const identityOf = (pool: Pick<PgClient, "unsafe">): Effect.Effect<string | undefined> =>
  pool.unsafe<{ readonly identity: string | null }>(openStatement).pipe(
    Effect.timeout("2 seconds"),
    Effect.map(([row]) => row?.identity ?? undefined),
    // An outbox is there, and the pool sees none.
    Effect.catchIf(isMissing, () => Effect.succeed("")),
    // What cannot be asked now, or not by this role, is not known.
    Effect.catch(() => Effect.succeed(undefined))
  )

/**
 * Needs the app's `PgClient`: its address for the session, its pool for replays and upkeep. What is
 * provided with it reads in its schema too (`Realtime.snapshot`, `Realtime.consume`).
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options?: Options): Layer.Layer<OutboxReader, StartError, PgClient> =>
  options?.schema === undefined
    ? Layer.effect(OutboxReader, make(options))
    : Layer.merge(
        Layer.effect(OutboxReader, make(options)),
        Layer.succeed(SchemaName, options.schema)
      )

/**
 * `layer`, with options that the environment gives.
 *
 * **Example** (A direct address beside that of a pooler)
 *
 * ```ts
 * OutboxReader.layerConfig({ readUrl: Config.Redacted("DATABASE_DIRECT_URL") })
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig = (
  config: Config.Wrap<Options>
): Layer.Layer<OutboxReader, StartError | Config.ConfigError, PgClient> =>
  Layer.unwrap(Effect.map(Config.unwrap(config), layer))
