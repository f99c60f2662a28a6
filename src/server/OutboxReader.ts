/**
 * The reader of the outbox: one per node, for all durable channels.
 *
 * It holds one PostgreSQL session beside the pool, takes positions on it, and sends every follower of a
 * channel the batches in between, each with its cursor. The cursor is its only state: after a lost
 * session the next session goes on from there. Replays for other cursors run on the pool. It decodes
 * nothing and knows no subscribers; `Realtime` does that. `PgInstaller` creates the objects that it
 * reads.
 *
 * @since 0.1.0
 */
import { PgClient } from "@effect/sql-pg/PgClient"
import * as Config from "effect/Config"
import type * as Channel from "../Channel.ts"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Queue from "effect/Queue"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import type * as SubscriptionRef from "effect/SubscriptionRef"
import { randomUUID } from "node:crypto"
import * as Os from "node:os"
import * as Backoff from "../Backoff.ts"
import { outboxReader as Defaults } from "../internal/defaults.ts"
import * as CatchUp from "./internal/outbox/catchUp.ts"
import * as History from "./internal/outbox/history.ts"
import type { OutboxFault } from "./internal/outbox/outboxErrors.ts"
import type { Filter } from "./internal/filter.ts"
import type { RowsAt, RowsRequest, StateError } from "./internal/outbox/state.ts"
import { durableStream } from "./internal/outbox/durableStream.ts"
import { type OutboxPublishError, publish, published } from "./internal/outbox/outboxPublish.ts"
import { readState } from "./internal/outbox/readState.ts"
import * as ReplayPool from "./internal/outbox/replayPool.ts"
import { identityOf } from "./internal/outbox/poolIdentity.ts"
import { Pace } from "./internal/outbox/lookSchedule.ts"
import { sweeping } from "./internal/ring.ts"
import type { InvalidDatabaseUrl } from "./internal/link/databaseUrl.ts"
import * as PgLink from "./internal/link/pgLink.ts"
import { type DatabaseRefused, patienceOf } from "./internal/link/databaseRefusal.ts"
import * as Reader from "./internal/outbox/reader.ts"
import { Leases, type NodeLease } from "./internal/outbox/lease.ts"
import type { Lease } from "./internal/outbox/sharedReads.ts"
import { Followers, type Item } from "./internal/outbox/tail.ts"
import * as Settings from "./internal/outbox/readerOptions.ts"
import type { OutboxOptions as Options } from "./internal/outbox/readerOptions.ts"
import * as Upkeep from "./internal/outbox/upkeep.ts"
import { backoff, checked, type InvalidOption } from "./internal/options.ts"
import * as Watched from "./internal/link/watched.ts"
import { FeedCarrier } from "./FeedCarrier.ts"
import { type Node, NodeBus } from "./NodeBus.ts"
import type { SourceState } from "./NotificationSource.ts"
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
} from "./internal/outbox/outboxErrors.ts"
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
export type {
  /**
   * @category models
   * @since 0.1.0
   */
  Filter
} from "./internal/filter.ts"
export type {
  /**
   * @category models
   * @since 0.1.0
   */
  HistoryPage,
  /**
   * @category models
   * @since 0.1.0
   */
  HistoryRequest,
  /**
   * @category models
   * @since 0.1.0
   */
  LastAt
} from "./internal/outbox/history.ts"
export {
  /**
   * @category errors
   * @since 0.1.0
   */
  InvalidFilter,
  /**
   * @category models
   * @since 0.1.0
   */
  type RowsAt,
  /**
   * @category models
   * @since 0.1.0
   */
  type RowsRequest,
  /**
   * @category errors
   * @since 0.1.0
   */
  type StateError,
  /**
   * @category models
   * @since 0.1.0
   */
  type StateLimits,
  /**
   * @category errors
   * @since 0.1.0
   */
  StateTooLarge
} from "./internal/outbox/state.ts"
export type {
  /**
   * @category models
   * @since 0.1.0
   */
  NodeLease
} from "./internal/outbox/lease.ts"
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

export type {
  /**
   * @category models
   * @since 0.1.0
   */
  OutboxOptions as Options
} from "./internal/outbox/readerOptions.ts"

/**
 * The reader of the outbox of a database.
 *
 * @category services
 * @since 0.1.0
 */
export class OutboxReader extends Context.Service<
  OutboxReader,
  {
    /**
     * From now on a channel whose name is `table`, a colon and a value also has the messages of the
     * channel `table`, in the order of their ids: those of a TRUNCATE of a table with routes.
     */
    readonly routed: (table: string) => Effect.Effect<void>
    /**
     * Everything that the reader delivers on a channel from now on, until the scope closes. Completes
     * once the reader has a position: what commits after that arrives. Waits while PostgreSQL is
     * unavailable. The queue is unbounded, so take from it at once.
     */
    readonly follow: (
      channel: string
    ) => Effect.Effect<Queue.Dequeue<Item>, OutboxFault, Scope.Scope>
    /**
     * Where a subscriber starts. Call `follow` before: of its batches, those with a later tick than the
     * join's belong to this subscriber, after the replay. A replay is never partial: with more than
     * `bounds` to replay (default `maxReplayEvents` and `maxReplayBytes`) the join is a reset. With a
     * `part`, the subscriber receives what it has room for, and joins again from its end while there is
     * `more`; what it has already missed counts against the bounds. With a `lease`, the reader keeps,
     * counts and shares what it read until the lease ends, and there may be `more` as well. Fails with
     * `ReplaysOverloaded` when too many replays wait. With a `filter` the replay leaves out messages that
     * the filter excludes, and may leave in some of them.
     */
    readonly join: (
      channel: string,
      from: string | undefined,
      bounds?: CatchUp.Bounds,
      part?: CatchUp.Part,
      lease?: Lease,
      filter?: Filter
    ) => Effect.Effect<CatchUp.Join, CatchUp.JoinError>
    /**
     * Reads the rows of a watched table that a filter includes, as of one position from which the events
     * follow. Fails with `StateTooLarge` beyond the limits, and reads no more then. Absent when the reader
     * cannot read tables.
     */
    readonly rows?: (request: RowsRequest) => Effect.Effect<RowsAt, StateError>
    /**
     * Messages of a channel before an id, the newest of them, as they are visible now. What becomes visible
     * below them later is handed out live. Absent when the reader cannot read backwards.
     */
    readonly history?: (
      channel: string,
      request: History.HistoryRequest
    ) => Effect.Effect<History.HistoryPage, CatchUp.JoinError>
    /** The last event of a channel that is kept, and the position from which events follow. As `history`. */
    readonly last?: (channel: string) => Effect.Effect<History.LastAt, CatchUp.JoinError>
    /** A secret of the database that no client knows, the same on all its nodes. As `rows`. */
    readonly secret?: Effect.Effect<string, OutboxFault>
    /**
     * The batches of a channel for one consumer, from a cursor or from now on: paged, without bound, and
     * at most a few pages in memory, however slow the consumer. Goes on after any failure of the
     * database. Without a cursor the first item is the position where the stream starts. When the reader
     * cannot resume from the cursor, the first item is a gap. Batches of a replay have the tick 0. With a
     * `filter` the replay is as in `join`; the batches after it have every message.
     */
    readonly batches: (
      channel: string,
      options?: { readonly from?: string | undefined; readonly filter?: Filter | undefined }
    ) => Stream.Stream<Item, OutboxFault>
    /**
     * Publishes JSON text on a channel, in the caller's transaction when there is one. The same key with
     * the same text is published once, also across a crash. `sent` is compared in the place of the text.
     */
    readonly publish: (
      channel: string,
      json: string,
      key?: string,
      sent?: string
    ) => Effect.Effect<void, OutboxPublishError>
    /**
     * Whether the message with this key has the same `sent`, or this JSON text if it has no `sent`.
     * `undefined` when no message has the key. Absent when the reader keeps no keys.
     */
    readonly published?: (
      channel: string,
      json: string,
      key: string,
      sent: string
    ) => Effect.Effect<boolean | undefined, OutboxPublishError>
    /** A position that contains everything that committed before the call. */
    readonly position: Effect.Effect<string, OutboxFault>
    /**
     * Waits until this node holds the lease of this name (1-300 bytes), which one holder at a time has in
     * the database. Held until the scope closes, or until `lost`: another holder takes it 4 s after the
     * last renewal, and this one gives it up after 3 s. Absent when the reader has no database.
     */
    readonly lease?: (name: string) => Effect.Effect<NodeLease, never, Scope.Scope>
    /** Whether events arrive now. */
    readonly state: SubscriptionRef.SubscriptionRef<SourceState>
    /**
     * Logs a warning when nothing of the table of this definition can arrive here, or where the definition
     * and the table differ. Absent when the reader cannot know that.
     */
    readonly checkTable?: (definition: Channel.Definition) => Effect.Effect<void>
    /**
     * Fails when the reader finds, before it was up for the first time, that waiting cannot help. It
     * never completes otherwise, and the reader keeps retrying. Absent when a reader cannot find that.
     */
    readonly refused?: Effect.Effect<never, DatabaseRefused | OutboxFault>
  }
>()("effect-realtime/server/OutboxReader") {}

/**
 * Why the reader opens no session: an option is invalid, the URL cannot be used, or PostgreSQL rejects
 * it.
 *
 * @category errors
 * @since 0.1.0
 */
export type StartError = InvalidDatabaseUrl | InvalidOption | DatabaseRefused

/**
 * Opens the session, and keeps it open in the background.
 *
 * Completes with the first session, or when PostgreSQL could not be reached at the first attempt. While
 * PostgreSQL is unavailable, the state is `down` and all calls wait. While the objects are missing, the
 * database is a standby, or `readUrl` leads to another database than the pool, all calls fail. Fails with
 * `InvalidOption` and `InvalidDatabaseUrl` at once, and with `DatabaseRefused` when PostgreSQL rejects
 * the reader for `startPatience`.
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
    const bus = yield* Effect.serviceOption(NodeBus)
    const leases = new Leases(Option.isSome(bus) ? bus.value.self : unnamed(), patience)
    const { current, refreshed, refused, secret, started, state } = yield* Reader.make({
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
      leases,
      carrier: Option.getOrUndefined(yield* Effect.serviceOption(FeedCarrier)),
      flushed: (options?.flushed ?? Defaults.flushed) === true,
      startPatience: until
    })
    const replays = yield* ReplayPool.make(sql, together, patience)
    const catchUp = yield* CatchUp.make(replays, limits, bounds, followers, current, refreshed)
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
      routed: (table) => Effect.sync(() => followers.route(table)),
      follow,
      join: catchUp.join,
      rows: readState(replays),
      secret,
      ...History.reading(
        replays,
        Effect.map(current, ({ identity }) => identity)
      ),
      batches: (channel, from) =>
        durableStream({
          channel,
          from: from?.from,
          filter: from?.filter,
          backlog,
          followers,
          current: Effect.tap(current, () => watched.compare(channel)),
          catchUp
        }),
      publish: (...message) => Effect.provideService(publish(sql, ...message), SchemaName, schema),
      published: (...message) =>
        Effect.provideService(published(sql, ...message), SchemaName, schema),
      position: Effect.map(refreshed, (now) => now.end),
      lease: leases.take,
      state,
      checkTable: watched.check,
      refused
    })
  })

/** A node without a bus: operators find it by its host and process. */
const unnamed = (): Node => ({
  name: `${Os.hostname()}-${process.pid}`,
  incarnation: randomUUID()
})

/** The options with their defaults. Throws `InvalidOption`. */
const resolved = (options: Options) => ({
  ...Settings.shared(options),
  ...Settings.times(options),
  together: Settings.together(options),
  backoff: backoff(options.backoff ?? Backoff.link),
  until: patienceOf(options.startPatience)
})

/**
 * The reader of the outbox. It takes its address from the application's `PgClient`, and uses that pool
 * for replays and for removing old messages. `Realtime.snapshot` and `Realtime.consume` above this layer
 * read in its schema, too.
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
 * `layer`, with options from a `Config`.
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
