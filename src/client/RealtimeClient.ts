/**
 * A client of the realtime server as an Effect service: channels in, Streams out.
 *
 * One socket, opened when it is needed, serves every subscription and every publish. The client
 * reconnects by itself, subscribes again from the last position, and delivers a `Gap` wherever events may
 * be missing. Runs in browsers and in Node 22.19 and newer. Code without Effect uses
 * `createRealtimeClient`.
 *
 * @since 0.1.0
 */
import * as Defaults from "../internal/defaults.ts"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { Channel, Delivery, Presence, RowOf } from "../Channel.ts"
import type { InvalidPayload } from "../RealtimeError.ts"
import {
  type Event,
  Gap,
  type HistoryOptions,
  type HistoryPage,
  type RealtimeEvent,
  type Snapshot
} from "../RealtimeEvent.ts"
import type { UrlFailed } from "./ClientError.ts"
import type { Options as ConnectionOptions, State as ConnectionState } from "./Connection.ts"
import * as Cell from "./internal/cell.ts"
import * as Collect from "./internal/joinedState.ts"
import * as Connection from "./internal/connectionMachine.ts"
import * as Inbox from "./internal/inbox.ts"
import type { Listener, SubscribeError } from "./internal/listener.ts"
import * as Pages from "./internal/pages.ts"
import { refusedOf } from "./internal/requests.ts"
import * as Publisher from "./internal/publisher.ts"
import type { PresenceHost } from "../internal/presenceTypes.ts"
import type { Host } from "../internal/rowTypes.ts"
import * as Subscriptions from "./internal/subscriptions.ts"
import type { SourceState } from "../Protocol.ts"
import * as Time from "./internal/time.ts"
import * as Volatile from "./internal/volatile.ts"
import {
  layer as queueLayer,
  type Options as QueueOptions,
  PublishQueue,
  type Size
} from "./PublishQueue.ts"
import type * as Members from "./Members.ts"
import type { Readable } from "./Readable.ts"
import type * as Rows from "./Rows.ts"

export type { PublishError, Published, PublishOptions } from "./internal/publisher.ts"
export type { VolatileOutcome } from "./internal/volatile.ts"
export type { Status } from "./internal/joinedState.ts"
export type { Listener, SubscribeError } from "./internal/listener.ts"

/**
 * Options of `RealtimeClient.layer`.
 *
 * @category options
 * @since 0.1.0
 */
export interface Options extends ConnectionOptions {
  /**
   * How long a publish waits for its answer on a connection that lives, default 10 s. Then the connection
   * is given up, and the publish is sent again over the next one under the same key.
   */
  readonly ackTimeout?: Duration.Input | undefined
  /**
   * Backlog of one Stream, default 16,384 events. When its consumer is further behind, the backlog
   * is dropped, the Stream gets a `Gap` with reason `slow`, and goes on. On a volatile channel there is
   * no `Gap`.
   */
  readonly maxStreamBuffer?: number | undefined
  /** Bounds of the publish queue; see `PublishQueue.Options`. */
  readonly queue?: QueueOptions | undefined
}

/**
 * Options of `RealtimeClient.events`.
 *
 * @category options
 * @since 0.1.0
 */
export interface EventsOptions {
  /**
   * The position to go on from: the `cursor` of the last event seen, or of a state, or on a durable channel
   * `oldest`: before everything that the server still keeps. The server replays what follows it, or, where it
   * cannot, the listener receives a `Gap` with reason `retention` first. On a durable
   * channel each listener of this client receives what its own position does not have, once, wherever the
   * others stand. On a live channel the position counts for the listener that opens the channel: while it
   * is open, a listener with another position than the present one receives that `Gap`. A listener
   * without a position receives what the listeners receive with which it opens the channel.
   */
  readonly from?: string | undefined
}

/**
 * Options of `RealtimeClient.state`.
 *
 * @category options
 * @since 0.1.0
 */
export interface StateOptions<S, in A, out E = never, out R = never> {
  /** The value before the first event; with a `Snapshot` it goes on from the snapshot's cursor. */
  readonly initial: S | Snapshot<S>
  /** The next value. Called once per event, as it arrives; what it throws makes the state `stale`. */
  readonly reduce: (value: S, payload: A) => S
  /**
   * Reads the state when the channel is active, unless `initial` is a `Snapshot`, and after each gap. The
   * client retries a failed read after its `backoff`, or as soon as the link is back, at most 9 times in a
   * minute. Exact with a `Snapshot`, however old it is; a state without a cursor may contain an event that
   * arrived during the read, which `reduce` then adds once more. Default: none.
   */
  readonly load?: Effect.Effect<S | Snapshot<S>, E, R> | undefined
}

/**
 * A value made of the events of a channel, with its status.
 *
 * @category models
 * @since 0.1.0
 */
export interface Collected<out S> {
  readonly value: S
  readonly status: Collect.Status
  /** Why the value is not `live`: a `Refused`, the last failure of `load` or `reduce`, or a `Gap`. */
  readonly error: unknown
  /** Begins a read by `load` now; its result is a value of the Stream. */
  readonly reload: Effect.Effect<void>
}

/**
 * The client for code that is not an Effect: what `PlainClient` stands on.
 *
 * @category models
 * @since 0.1.0
 */
export interface Sync {
  /** Adds a listener; gives back the way to leave. Nothing is delivered after leaving. */
  readonly listen: <A>(channel: Channel<A>, listener: Listener<A>, from?: string) => () => void
  /** The last event that the open subscription of a channel delivered. */
  readonly last: <A>(channel: Channel<A>) => Event<A> | undefined
  /** @internal */
  readonly collect: Collect.Collect
  /** @internal */
  readonly host: Host & PresenceHost
  readonly connection: Readable<ConnectionState>
  readonly source: Readable<SourceState>
  /** What waits in the publish queue. */
  readonly queue: Readable<Size>
  readonly reconnect: () => void
}

/**
 * The client of one server: subscribes to channels and publishes to them over one WebSocket.
 *
 * @category services
 * @since 0.1.0
 */
export class RealtimeClient extends Context.Service<
  RealtimeClient,
  {
    /**
     * The payloads of a channel, from now on.
     *
     * Fails with `Gap` when events may be missing, because a Stream of payloads cannot say it in
     * another way; `events` goes on after a gap.
     */
    readonly subscribe: <A>(channel: Channel<A>) => Stream.Stream<A, Gap | SubscribeError>
    /**
     * The events of a channel, with gaps as values in their places.
     *
     * It outlives reconnects: it loses nothing that the server kept, and repeats nothing. Where the
     * server could not go on from the last position, there is a `Gap` with reason `retention`.
     * Fails when the server rejects the channel or the connection stopped.
     */
    readonly events: <A>(
      channel: Channel<A>,
      options?: EventsOptions
    ) => Stream.Stream<RealtimeEvent<A>, SubscribeError>
    /**
     * A state and the events behind it as one value: now, then after each batch of events and each
     * change of its status. A slow consumer receives the newest value only. Exact, also if the channel is
     * open in this client and busy: the stream goes on from the cursor of the state. It outlives
     * reconnects. Fails when the server rejects the channel for good or the connection stopped.
     *
     * **Example** (The orders, always current)
     *
     * ```ts
     * client.state(OrderUpdates, { initial: [], load: readOrders, reduce: applyUpdate })
     * ```
     */
    readonly state: <A, S, E = never, R = never>(
      channel: Channel<A>,
      options: StateOptions<S, NoInfer<A>, E, R>
    ) => Stream.Stream<Collected<S>, SubscribeError, R>
    /**
     * The rows of a table, kept current: now, then after each frame and each change of their status. The
     * server sends the state, and then the changes that are not in it; after a reconnect only the changes. A
     * slow consumer receives the newest value only. Consumers of equal filters share one subscription and
     * one collection. Fails when the server rejects the channel or the filter for good, or the connection
     * stopped.
     *
     * **Example** (The new orders)
     *
     * ```ts
     * client.rows(Orders, { where: { status: "new" } })
     * ```
     */
    readonly rows: <C extends Rows.TableChannel>(
      channel: C,
      options?: Rows.Options<C>
    ) => Stream.Stream<Rows.Rows<RowOf<C>>, SubscribeError>
    /**
     * The members of a presence channel: now, then after each change of them or of their status. It watches and
     * is no member. A slow consumer receives the newest value only. While the link is away the members stay,
     * `stale`. Fails when the server rejects the channel for good, or the connection stopped.
     *
     * **Example** (The members in the lobby)
     *
     * ```ts
     * client.presence(InRoom("lobby"))
     * ```
     */
    readonly presence: <A>(
      channel: Presence<A>
    ) => Stream.Stream<Members.Members<A>, SubscribeError>
    /**
     * Is a member of a presence channel, with a state, until the scope ends. Succeeds when the server has taken
     * the state. After a reconnect the client shows the newest state again. All uses of a client are one
     * member: the state that was given last counts, and after its scope the one before.
     *
     * **Example** (Being in the lobby)
     *
     * ```ts
     * const me = yield* client.present(InRoom("lobby"), { name: "Ada", typing: false })
     * yield* me.update({ name: "Ada", typing: true })
     * ```
     */
    readonly present: <A>(
      channel: Presence<A>,
      state: NoInfer<A>
    ) => Effect.Effect<Members.Own<A, SubscribeError>, InvalidPayload | SubscribeError, Scope.Scope>
    /**
     * Publishes and waits until the server says that it happened.
     *
     * While there is no connection the message waits in the queue. The client sends it again under the same
     * key when the answer was lost, so it has one effect. It fails with `Expired` when it has waited for
     * 60 s (the option `queue.maxAge`), and the server does nothing of it afterwards. Messages leave in
     * order; one that the server asked to send later may be overtaken by those already on their way.
     *
     * On a volatile channel nothing waits and nothing is sent later: it succeeds with `dropped` when the
     * link is away, when a newer payload of the same key (`latestBy`) takes its place before the server's
     * rate allows to send it, or when the server drops it; else with `published`.
     */
    readonly publish: <A, Kind extends Delivery = Delivery>(
      channel: Channel<A, true, string, Kind>,
      payload: NoInfer<A>,
      options?: Publisher.PublishOptions
    ) => Effect.Effect<Publisher.Published<Kind>, Publisher.PublishError>
    /**
     * A page of the events that a channel had before, the newest first, in order inside of the page: of a
     * durable channel within its retention, of a live channel what the server's node remembers. Waits while
     * the link is away. To join the pages to the events from now on without a hole, use `History`.
     */
    readonly history: <A>(
      channel: Channel<A>,
      options?: HistoryOptions
    ) => Effect.Effect<HistoryPage<A>, SubscribeError>
    /** The state of the socket now, then each change. */
    readonly connection: Stream.Stream<ConnectionState>
    /** Whether the server hears its database now, then each change. */
    readonly source: Stream.Stream<SourceState>
    /**
     * Looks at the link now, cuts a wait short, and starts again after `stopped`. Streams have failed
     * by then: run them again.
     */
    readonly reconnect: Effect.Effect<void>
    readonly sync: Sync
  }
>()("effect-realtime/client/RealtimeClient") {}

/**
 * Makes the client alone; you provide the queue. The connection ends with the scope.
 *
 * `byDefault` is called where the options have no `onError`. Default: nothing.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (
  options: Options,
  byDefault?: NonNullable<Options["onError"]>
): Effect.Effect<RealtimeClient["Service"], UrlFailed, PublishQueue | Scope.Scope> =>
  Effect.gen(function* () {
    const queue = yield* PublishQueue
    const time = yield* Time.make
    const capacity = options.maxStreamBuffer ?? Defaults.maxStreamBuffer

    // The connection looks at them in a turn of its own, in which they may not be there yet.
    let wings: ReadonlyArray<Connection.Above> = []
    const connection = yield* Connection.make(options, time, () => wings, byDefault)
    const subscriptions = Subscriptions.make(connection, time)
    const ackMillis = Time.millis(options.ackTimeout ?? Defaults.ackTimeout)
    const volatile = Volatile.make(connection, time)
    const publisher = Publisher.make(connection, time, queue, ackMillis, volatile)
    const pages = Pages.make(connection, time)
    // Volatile first, so that a listener may publish as soon as the link is open. The last one is down first, so
    // that what a listener publishes then waits.
    wings = [volatile, subscriptions, publisher, pages]
    connection.look()

    const events: RealtimeClient["Service"]["events"] = <A>(
      channel: Channel<A>,
      options?: EventsOptions
    ) =>
      Inbox.stream<RealtimeEvent<A>, SubscribeError>((inbox) =>
        subscriptions.listen(
          channel,
          {
            onEvents: (batch) => {
              if (inbox.size() + batch.length <= capacity) return inbox.push(batch)
              const { cursor } = batch.at(-1)!
              // Only a volatile channel has no positions, and no gaps: its backlog is out of date.
              inbox.replace(
                cursor === undefined
                  ? batch
                  : [new Gap({ channel: channel.name, reason: "slow", cursor })]
              )
            },
            onEnd: inbox.fail
          },
          options?.from
        )
      )

    const collect = Collect.make(subscriptions, time, connection.jitter)
    const state: RealtimeClient["Service"]["state"] = (channel, { initial, load, reduce }) =>
      Stream.unwrap(
        Effect.map(Effect.context(), (context) =>
          Inbox.stream((inbox) => {
            const read = load && Collect.readOf(Effect.provideContext(load, context), time)
            const show = () => inbox.replace([{ ...collecting.shown(), reload }])
            const collecting = collect({
              channel,
              initial,
              reduce,
              load: () => read,
              onChange: show,
              onEnd: inbox.fail
            })
            const reload = Effect.sync(() => collecting.read())
            show()
            collecting.start()
            return collecting.stop
          })
        )
      )

    const host: Host & PresenceHost = {
      // Its `listen` does not know the channels of rows.
      ...(subscriptions as never as Pick<Host, "listen" | "look">),
      ...time,
      linger: connection.linger,
      due: [],
      stores: new Set(),
      connection,
      refusedOf,
      enlist: (wing) => {
        wings = [wing, ...wings]
      }
    }
    const rows: RealtimeClient["Service"]["rows"] = (channel, options = {}) =>
      Inbox.stream((inbox) =>
        channel.table.rows
          .open(host, channel, options)
          .follow((rows) => inbox.replace([rows as never]), inbox.fail)
      )

    return RealtimeClient.of({
      events,
      state,
      rows,
      presence: (channel) =>
        Inbox.stream((inbox) =>
          channel.keeper.follow(
            host,
            channel,
            (members) => inbox.replace([members as never]),
            inbox.fail
          )
        ),
      present: (channel, state) => channel.keeper.present(host, channel, state) as never,
      subscribe: (channel) =>
        Stream.mapEffect(events(channel), (event) =>
          event._tag === "Gap" ? Effect.fail(event) : Effect.succeed(event.payload)
        ),
      publish: publisher.publish,
      history: pages.history,
      connection: Cell.changes(connection.state),
      source: Cell.changes(connection.source),
      reconnect: Effect.sync(connection.reconnect),
      sync: {
        listen: subscriptions.listen,
        last: subscriptions.last,
        collect,
        host,
        connection: connection.state,
        source: connection.source,
        queue: publisher.waiting,
        reconnect: connection.reconnect
      }
    })
  })

/**
 * Provides the client over a `PublishQueue` of your own.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerNoDeps = (
  options: Options
): Layer.Layer<RealtimeClient, UrlFailed, PublishQueue> =>
  Layer.effect(
    RealtimeClient,
    Effect.flatMap(Effect.context<Scope.Scope>(), (context) =>
      make(options, (error) => Effect.runForkWith(context)(Effect.logError(error.message)))
    )
  )

/**
 * Provides the client with its queue in memory.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options: Options): Layer.Layer<RealtimeClient, UrlFailed> =>
  Layer.provide(layerNoDeps(options), queueLayer(options.queue))
