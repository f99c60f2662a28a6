/**
 * The hub: publish to a channel, or consume one as a `Stream` of typed events.
 *
 * In: raw notifications from a `NotificationSource`, and batches from an `OutboxReader`. Out: one Stream
 * per consumer, with the same guarantees as a socket. It knows nothing of sockets or HTTP;
 * `RealtimeServer` does that.
 *
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type * as Channel from "../Channel.ts"
import type { InvalidChannelName, InvalidPayload } from "../RealtimeError.ts"
import type { Gap, HistoryOptions, HistoryPage, RealtimeEvent } from "../RealtimeEvent.ts"
import type { HistoryError, OpenError, SendError } from "./internal/hub/delivery.ts"
import { eventStreams } from "./internal/hub/eventStreams.ts"
import { pageFor } from "./internal/hub/history.ts"
import * as Hub from "./internal/hub/hub.ts"
import { type FollowedMembers, membersOf, presentAs } from "./internal/hub/members.ts"
import { hubOf } from "./internal/hub/ofRealtime.ts"
import {
  type FollowedRows as Rows,
  type RowsError,
  type RowsOptions,
  rowsOf,
  type RowsTable
} from "./internal/hub/tableRows.ts"
import {
  type EventBatch,
  type EventsOptions,
  type Needs,
  type Options,
  type PublishOptions,
  type StartError,
  resolved
} from "./internal/hub/realtimeOptions.ts"
import { checked } from "./internal/options.ts"
import { NotificationSource, type SourceState } from "./NotificationSource.ts"
import { OutboxReader } from "./OutboxReader.ts"

export {
  /**
   * @category errors
   * @since 0.1.0
   */
  type HistoryError,
  /**
   * @category errors
   * @since 0.1.0
   */
  type OpenError as SubscribeError,
  /**
   * @category errors
   * @since 0.1.0
   */
  type SendError
} from "./internal/hub/delivery.ts"
export {
  /**
   * @category errors
   * @since 0.1.0
   */
  CannotFilter,
  /**
   * @category errors
   * @since 0.1.0
   */
  NoEvents,
  /**
   * @category errors
   * @since 0.1.0
   */
  NoHistory,
  /**
   * @category errors
   * @since 0.1.0
   */
  NoOutbox,
  /**
   * @category errors
   * @since 0.1.0
   */
  NoSource,
  /**
   * @category errors
   * @since 0.1.0
   */
  NotDurable,
  /**
   * @category errors
   * @since 0.1.0
   */
  TooManyChannels,
  /**
   * @category errors
   * @since 0.1.0
   */
  TooManyFilters
} from "./internal/hub/errors.ts"
export {
  /**
   * @category subscribing
   * @since 0.1.0
   */
  consume,
  /**
   * @category models
   * @since 0.1.0
   */
  type ConsumeOptions
} from "./internal/hub/consume.ts"
export type {
  /**
   * @category models
   * @since 0.1.0
   */
  Member,
  /**
   * @category models
   * @since 0.1.0
   */
  FollowedMembers as Members,
  /**
   * @category models
   * @since 0.1.0
   */
  PresentMember
} from "./internal/hub/members.ts"
export { maxNotifyBytes } from "./internal/hub/live.ts"
export {
  /**
   * @category models
   * @since 0.1.0
   */
  type FollowedRows as Rows,
  /**
   * @category errors
   * @since 0.1.0
   */
  type RowsError,
  /**
   * @category models
   * @since 0.1.0
   */
  type RowsOptions,
  /**
   * @category models
   * @since 0.1.0
   */
  type RowsTable
} from "./internal/hub/tableRows.ts"
export {
  /**
   * @category errors
   * @since 0.1.0
   */
  ConsumerConflict,
  /**
   * @category errors
   * @since 0.1.0
   */
  type ConsumerError,
  /**
   * @category errors
   * @since 0.1.0
   */
  ConsumerGap
} from "./internal/outbox/consumers.ts"
export {
  /**
   * @category reading state
   * @since 0.1.0
   */
  readRows,
  /**
   * @category errors
   * @since 0.1.0
   */
  RowMismatch
} from "./internal/outbox/readRows.ts"
export type {
  /**
   * @category models
   * @since 0.1.0
   */
  EventBatch,
  /**
   * @category models
   * @since 0.1.0
   */
  EventsOptions,
  /**
   * @category models
   * @since 0.1.0
   */
  Needs,
  /**
   * @category models
   * @since 0.1.0
   */
  NeedsOf,
  /**
   * @category models
   * @since 0.1.0
   */
  Options,
  /**
   * @category models
   * @since 0.1.0
   */
  PublishOptions,
  /**
   * @category errors
   * @since 0.1.0
   */
  StartError
} from "./internal/hub/realtimeOptions.ts"
export {
  /**
   * @category errors
   * @since 0.1.0
   */
  NestedSnapshot,
  /**
   * @category reading state
   * @since 0.1.0
   */
  snapshot,
  /**
   * @category errors
   * @since 0.1.0
   */
  type SnapshotError
} from "./internal/outbox/snapshot.ts"

/**
 * Why a payload was not published.
 *
 * @category errors
 * @since 0.1.0
 */
export type PublishError = InvalidChannelName | InvalidPayload | SendError

/**
 * The hub of a node.
 *
 * @category services
 * @since 0.1.0
 */
export class Realtime extends Context.Service<
  Realtime,
  {
    /**
     * Sends a payload to every subscriber of the channel, on every node (volatile channels: on this one, and with a
     * `NodeBus` at most once on the others).
     *
     * In a transaction of the application's `PgClient` the publish is part of the transaction:
     * subscribers receive it after the commit, and a rollback sends nothing. PostgreSQL folds identical
     * payloads that one transaction sends to one channel into one.
     */
    readonly publish: <A, Kind extends Channel.Delivery = Channel.Delivery>(
      channel: Channel.Channel<A, boolean, string, Kind>,
      payload: NoInfer<A>,
      options?: PublishOptions
    ) => Effect.Effect<void, PublishError, Needs<Kind>>
    /**
     * The payloads of a channel from now on. Fails with `Gap` where events may be missing: re-read the
     * state, then subscribe again.
     */
    readonly subscribe: <A, Kind extends Channel.Delivery = Channel.Delivery>(
      channel: Channel.Channel<A, boolean, string, Kind>
    ) => Stream.Stream<A, Gap | OpenError, Needs<Kind>>
    /**
     * The events of a channel, with gaps as values in their place. With `from`, resumes after that
     * cursor, or begins with a gap when the server cannot resume from it. A consumer more than 256
     * batches behind loses the oldest and receives `gap slow`; on a volatile channel it receives the newest
     * event of each of 1,000 keys. To keep a cursor for later, use `batches`.
     */
    readonly events: <A, Kind extends Channel.Delivery = Channel.Delivery>(
      channel: Channel.Channel<A, boolean, string, Kind>,
      options?: EventsOptions
    ) => Stream.Stream<RealtimeEvent<A>, OpenError, Needs<Kind>>
    /**
     * The events of a channel in the batches in which they arrive, each with the position after it: for
     * consumers that store their cursor with their work. On a durable channel a batch without events is a
     * position: where the Stream begins when it has no `from`, and a newer one every hour (or quarter of
     * the retention). Store it too, or the cursor of a quiet channel expires.
     */
    readonly batches: <A, Kind extends Channel.Delivery = Channel.Delivery>(
      channel: Channel.Channel<A, boolean, string, Kind>,
      options?: EventsOptions
    ) => Stream.Stream<EventBatch<A>, OpenError, Needs<Kind>>
    /**
     * The rows of a table, or of those that `where` includes, as they are and as they change. The first
     * state is read when the Stream begins, and after events were missing it is read again, at most every
     * 5 s, and every 60 s while that goes on. A slow consumer receives the newest collection only. A row
     * that does not match its Schema is left out and logged.
     *
     * It is the program that asks, so no boundary of `authorize` applies.
     */
    readonly rows: <D extends RowsTable>(
      table: D,
      options?: RowsOptions<D>
    ) => Stream.Stream<Rows<Channel.RowOf<D>>, RowsError, OutboxReader>
    /**
     * Whether events arrive, beginning with the current state. It is up when all sources of this node are
     * up: the link, and the reader of the outbox when there is one.
     */
    readonly source: Stream.Stream<SourceState>
    /** What `RealtimeServer` needs of the hub. A copy of the service keeps it. */
    readonly "~effect-realtime/server/Realtime": unknown
  }
>()("effect-realtime/server/Realtime") {}

/**
 * See `publish` of the service.
 *
 * @category publishing
 * @since 0.1.0
 */
export const publish = <A, Kind extends Channel.Delivery = Channel.Delivery>(
  channel: Channel.Channel<A, boolean, string, Kind>,
  payload: NoInfer<A>,
  options?: PublishOptions
): Effect.Effect<void, PublishError, Realtime | Needs<Kind>> =>
  Realtime.use((realtime) => realtime.publish(channel, payload, options))

/**
 * See `subscribe` of the service.
 *
 * @category subscribing
 * @since 0.1.0
 */
export const subscribe = <A, Kind extends Channel.Delivery = Channel.Delivery>(
  channel: Channel.Channel<A, boolean, string, Kind>
): Stream.Stream<A, Gap | OpenError, Realtime | Needs<Kind>> =>
  Stream.unwrap(Realtime.useSync((realtime) => realtime.subscribe(channel)))

/**
 * See `events` of the service.
 *
 * @category subscribing
 * @since 0.1.0
 */
export const events = <A, Kind extends Channel.Delivery = Channel.Delivery>(
  channel: Channel.Channel<A, boolean, string, Kind>,
  options?: EventsOptions
): Stream.Stream<RealtimeEvent<A>, OpenError, Realtime | Needs<Kind>> =>
  Stream.unwrap(Realtime.useSync((realtime) => realtime.events(channel, options)))

/**
 * See `batches` of the service.
 *
 * @category subscribing
 * @since 0.1.0
 */
export const batches = <A, Kind extends Channel.Delivery = Channel.Delivery>(
  channel: Channel.Channel<A, boolean, string, Kind>,
  options?: EventsOptions
): Stream.Stream<EventBatch<A>, OpenError, Realtime | Needs<Kind>> =>
  Stream.unwrap(Realtime.useSync((realtime) => realtime.batches(channel, options)))

/**
 * Reads a page of the events that a channel had before, the newest first, in order inside of the page: of a
 * durable channel what the retention keeps, of a live channel what this node remembers while the channel is
 * open. Events that do not match the schema are left out. Fails with `NoHistory` on a volatile channel.
 *
 * Commits become visible out of the order of their ids. A program that follows the channel too, and
 * subscribed before it read the first page, has every event in a page or live, and some in both: compare
 * their ids.
 *
 * @category reading state
 * @since 0.1.0
 */
export const history = <A, Kind extends Channel.Delivery = Channel.Delivery>(
  channel: Channel.Channel<A, boolean, string, Kind>,
  options?: HistoryOptions
): Effect.Effect<HistoryPage<A>, HistoryError, Realtime | Needs<Kind>> =>
  Realtime.use((realtime) => pageFor(hubOf(realtime).deliveryOf(channel).history, channel, options))

/**
 * See `rows` of the service.
 *
 * **Example** (The orders that are new)
 *
 * ```ts
 * Realtime.rows(Orders, { where: { status: "new" } }).pipe(
 *   Stream.runForEach(({ rows, status }) => Effect.log(status, rows.length))
 * )
 * ```
 *
 * @category subscribing
 * @since 0.1.0
 */
export const rows = <D extends RowsTable>(
  table: D,
  options?: RowsOptions<D>
): Stream.Stream<Rows<Channel.RowOf<D>>, RowsError, Realtime | OutboxReader> =>
  Stream.unwrap(Realtime.useSync((realtime) => realtime.rows(table, options)))

/**
 * The members of a presence channel on all nodes, as they are and as they change. A slow consumer receives the
 * newest list only. On a node that starts with a `NodeBus` the Stream begins when the node knows the members of
 * the others, after 1.2 to 3 s.
 *
 * @category subscribing
 * @since 0.1.0
 */
export const presence = <A>(
  channel: Channel.Presence<A>
): Stream.Stream<FollowedMembers<A>, InvalidChannelName, Realtime> =>
  Stream.unwrap(Realtime.useSync((realtime) => membersOf(hubOf(realtime), channel)))

/**
 * Makes this program a member of a presence channel, with a state, until the scope closes. Each call makes a
 * member of its own. Fails with `PayloadTooLarge` when the state has more than 2,048 bytes of JSON.
 *
 * @category publishing
 * @since 0.1.0
 */
export const present = <A>(channel: Channel.Presence<A>, state: NoInfer<A>) =>
  Realtime.use((realtime) => presentAs(hubOf(realtime), channel, state))

/**
 * Makes a hub. Without an `OutboxReader` in its context its durable channels fail with `NoOutbox`,
 * without a `NotificationSource` its live ones with `NoSource`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (
  options?: Options
): Effect.Effect<Realtime["Service"], StartError, Scope.Scope> =>
  Effect.gen(function* () {
    const source = Option.getOrUndefined(yield* Effect.serviceOption(NotificationSource))
    const outbox = Option.getOrUndefined(yield* Effect.serviceOption(OutboxReader))
    const settings = yield* checked(() => resolved(options ?? {}))
    const hub = yield* Hub.make(source, outbox, settings)

    return Realtime.of({
      ...eventStreams(hub),
      rows: rowsOf(outbox, settings.state),
      source: hub.source(),
      "~effect-realtime/server/Realtime": hub
    })
  })

/**
 * Live channels, and durable ones when an `OutboxReader.layer` is beneath it too. Needs a
 * `NotificationSource`: `PgNotificationSource.layer`, or `MemorySource.layer`. Fails with `InvalidOption`,
 * and with `TopicTaken` when another `Realtime` of the program has the same `NodeBus`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options?: Options): Layer.Layer<Realtime, StartError, NotificationSource> =>
  Layer.effect(Realtime, make(options))

/**
 * `layer`, with options from a `Config`.
 *
 * **Example** (A limit that the operator sets)
 *
 * ```ts
 * Realtime.layerConfig({ maxChannels: Config.Int("MAX_CHANNELS") })
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig = (
  config: Config.Wrap<Options>
): Layer.Layer<Realtime, StartError | Config.ConfigError, NotificationSource> =>
  Layer.effect(Realtime, Effect.flatMap(Config.unwrap(config), make))

/**
 * Durable channels only, without a link to the database: behind a transaction pooler, for example. Needs
 * an `OutboxReader`. A server with a live channel fails at start with `NoSource`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerDurable = (options?: Options): Layer.Layer<Realtime, StartError, OutboxReader> =>
  Layer.effect(Realtime, make(options))

/**
 * Volatile channels only, without a database. Others fail at start, with `NoSource` or `NoOutbox`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerVolatile = (options?: Options): Layer.Layer<Realtime, StartError> =>
  Layer.effect(Realtime, make(options))
