/**
 * The client for code without Effect: handlers, promises and snapshots.
 *
 * It owns the runtime of one `RealtimeClient` and makes it on first use, so it costs nothing before the
 * first handler; on a server that renders pages there is none. React's hooks stand on it.
 *
 * @since 0.1.0
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import type { Any, Delivery, Payload, RowOf } from "../Channel.ts"
import { asChannel } from "../ChannelBase.ts"
import type { SourceState } from "../Protocol.ts"
import type { Event, Gap, HistoryOptions, HistoryPage, RealtimeEvent } from "../RealtimeEvent.ts"
import type { State as ConnectionState } from "./Connection.ts"
import type { Refused } from "./ClientError.ts"
import { attempt, report } from "../internal/callbacks.ts"
import { check } from "./internal/addresses.ts"
import { make as makeQueue, PublishQueue, type Size } from "./PublishQueue.ts"
import type { Readable } from "./Readable.ts"
import type * as Rows from "./Rows.ts"
import {
  make as makeClient,
  type Options,
  type Published,
  type PublishOptions,
  type RealtimeClient,
  type SubscribeError,
  type Sync
} from "./RealtimeClient.ts"

/**
 * Called once per event, synchronously, in order.
 *
 * @category models
 * @since 0.1.0
 */
export type Handler<in A> = (payload: A, event: Event<A>) => void

/**
 * Called once per frame with all its events, synchronously, in order: many rows of one statement are one
 * call. A gap between the events of a frame makes it two calls, with `onGap` in between.
 *
 * @category models
 * @since 0.1.0
 */
export type BatchHandler<in A> = (
  payloads: NonEmptyReadonlyArray<A>,
  events: NonEmptyReadonlyArray<Event<A>>
) => void

/**
 * Options of `listen`.
 *
 * @category options
 * @since 0.1.0
 */
export interface ListenOptions<in A = unknown> {
  /** Events may be missing before this point: re-read the state. */
  readonly onGap?: ((gap: Gap) => void) | undefined
  /** Beside the handler of single events, or in its place: once per frame, after that handler. */
  readonly onBatch?: BatchHandler<A> | undefined
  /**
   * Nothing follows (`SubscribeError`; after `ConnectionStopped`, until `reconnect`); the server rejected
   * the channel for now (`Refused` with `retryAfter`: the client goes on by itself); or a handler
   * threw (what it threw; delivery goes on). Default: `reportError`, which shows it like an uncaught
   * error; nothing for `ConnectionStopped`, which the client's own `onError` tells once.
   */
  readonly onError?: ((error: SubscribeError | unknown) => void) | undefined
  /**
   * The subscription is active, or moved without events: the client receives all that commits from here
   * on. A volatile channel has the empty cursor.
   */
  readonly onCursor?: ((cursor: string) => void) | undefined
  /**
   * The subscription is not active now: the link is away, or the server rejected the channel for now
   * (`error`). Called once per change; the next event or `onCursor` means that it is active again.
   */
  readonly onInactive?: ((error: Refused | undefined) => void) | undefined
  /** The position to go on from, see `RealtimeClient.EventsOptions`. */
  readonly from?: string | undefined
}

/**
 * What a publish gives, by the type of its channel: `published` or `dropped` on a volatile channel, nothing on
 * others.
 *
 * @category models
 * @since 0.1.0
 */
export type PublishedTo<C> = C extends { readonly delivery: infer Kind extends Delivery }
  ? Published<Kind>
  : void

/**
 * A client without Effect: callbacks and promises over one connection. Make one with `createRealtimeClient`.
 *
 * @category models
 * @since 0.1.0
 */
export interface PlainClient {
  /** Calls `handler` for each event from now on, until the result is called. */
  readonly listen: <C extends Any | string>(
    channel: C,
    handler: Handler<Payload<C>> | undefined,
    options?: ListenOptions<Payload<C>>
  ) => () => void
  /**
   * The last event of a channel that this client has open, else `undefined`; its `cursor` is the position up
   * to which it is the last. Opens nothing.
   */
  readonly last: <C extends Any | string>(channel: C) => Event<Payload<C>> | undefined
  /**
   * The rows of a table, kept current while they have subscribers. Opens nothing until then. Equal filters
   * share one subscription and the rows.
   *
   * **Example** (Showing the new orders)
   *
   * ```ts
   * const orders = client.rows(Orders, { where: { status: "new" } })
   * const stop = orders.subscribe(() => show(orders.getSnapshot().rows))
   * ```
   */
  readonly rows: <C extends Rows.TableChannel>(
    channel: C,
    options?: Rows.Options<C>
  ) => Rows.Collection<RowOf<C>>
  /**
   * Resolves when the server said that it happened; rejects with a `PublishError`. Without a connection it
   * waits in the queue, for 60 s (the option `queue.maxAge`), and happens once. On a volatile channel it
   * resolves at once with `dropped` then, and never waits.
   */
  readonly publish: <C extends (Any & { readonly publish: true }) | string>(
    channel: C,
    payload: Payload<C>,
    options?: PublishOptions
  ) => Promise<PublishedTo<C>>
  /**
   * A page of the events that a channel had before, see `RealtimeClient.history`. Waits while the link is
   * away; rejects with a `SubscribeError`.
   */
  readonly history: <C extends Any | string>(
    channel: C,
    options?: HistoryOptions
  ) => Promise<HistoryPage<Payload<C>>>
  /** What waits in the publish queue, on its way included. */
  readonly queue: Readable<Size>
  readonly connection: Readable<ConnectionState>
  readonly source: Readable<SourceState>
  /**
   * Looks at the link now, cuts a wait short, and starts again after `stopped`: each listener that is
   * still there then goes on from where it was.
   */
  readonly reconnect: () => void
  /** What `Collector` stands on. Calling it makes the client's runtime, and opens nothing. */
  readonly sync: () => Sync
  /**
   * Ends everything for good: no reconnect, no handler call and no timer is left. The client closes the
   * socket and does not wait for it; see the option `webSocket` for a Node process over a dead link.
   */
  readonly close: () => Promise<void>
}

const isNonEmpty = <A>(list: ReadonlyArray<A>): list is NonEmptyReadonlyArray<A> => list.length > 0

const payloadsOf = <A>(events: NonEmptyReadonlyArray<Event<A>>) =>
  events.map(({ payload }) => payload) as unknown as NonEmptyReadonlyArray<A>

const from = (
  client: () => RealtimeClient["Service"],
  made: () => RealtimeClient["Service"] | undefined,
  close: () => Promise<void>
): PlainClient => {
  let closed = false
  const sync = () => client().sync
  const readable = <A>(of: () => Readable<A>): Readable<A> => ({
    getSnapshot: () => of().getSnapshot(),
    subscribe: (onChange) => of().subscribe(onChange)
  })
  return {
    listen: <C extends Any | string, A = Payload<C>>(
      channel: C,
      handler: Handler<A> | undefined,
      { from, onBatch, onCursor, onError = report, onGap, onInactive }: ListenOptions<A> = {}
    ) => {
      let active = true
      /** What must happen before the next call: that `listen` returns, and then the calls that waited for it. */
      let before = 1
      const guard = <A>(run: (value: A) => void, value: A) => {
        if (!active || closed) return
        try {
          run(value)
        } catch (error) {
          attempt(() => onError(error), report)
        }
      }
      // The listener hears what is known at once after `listen` has returned, and what arrives meanwhile after it.
      const told =
        <A>(run: (value: A) => void) =>
        (value: A) => {
          if (before === 0) return guard(run, value)
          before++
          queueMicrotask(() => {
            before--
            guard(run, value)
          })
        }
      const onEvent = (event: RealtimeEvent<A>) =>
        event._tag === "Gap" ? onGap?.(event) : handler?.(event.payload, event)
      const flush = (events: ReadonlyArray<Event<A>>) => {
        if (isNonEmpty(events)) onBatch?.(payloadsOf(events), events)
      }
      const onFrame = (frame: ReadonlyArray<RealtimeEvent<A>>) => {
        let events: Array<Event<A>> = []
        for (const event of frame) {
          if (event._tag === "Event") events.push(event)
          else {
            guard(flush, events)
            events = []
          }
          guard(onEvent, event)
        }
        guard(flush, events)
      }
      const leave = sync().listen(
        asChannel<A>(channel),
        {
          onEvents: told(onFrame),
          onCursor: onCursor && told(onCursor),
          onInactive: told((error) => {
            onInactive?.(error)
            if (error !== undefined) onError(error)
          }),
          onEnd: told(onError)
        },
        from
      )
      before--
      return () => {
        active = false
        leave()
      }
    },
    last: <C extends Any | string>(channel: C) => made()?.sync.last(asChannel<Payload<C>>(channel)),
    rows: (channel, options = {}) =>
      channel.table.rows.collect(sync().host, channel, options) as Rows.Collection<never>,
    publish: (channel, payload, options) =>
      Effect.runPromise(client().publish(asChannel(channel), payload, options)) as Promise<never>,
    history: (channel, options) =>
      Effect.runPromise(client().history(asChannel(channel), options)) as Promise<never>,
    queue: readable(() => sync().queue),
    connection: readable(() => sync().connection),
    source: readable(() => sync().source),
    reconnect: () => sync().reconnect(),
    sync,
    close: () => {
      closed = true
      return close()
    }
  }
}

/**
 * Makes a client for code without Effect. Its runtime begins on first use, and calls options given as a
 * function then. The option `onError` is one `console.error` by default. `createRealtimeClient` of `effect-realtime/client` is this function.
 *
 * **Example** (Listening without Effect)
 *
 * ```ts
 * const client = createRealtimeClient({ url: "/realtime" })
 * const stop = client.listen(Channel.systemNotifications, (notice) => show(notice.message))
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (options: Options | (() => Options)): PlainClient => {
  if (typeof options !== "function") Effect.runSync(check(options.url))
  const scope = Scope.makeUnsafe()
  let client: RealtimeClient["Service"] | undefined
  const build = Effect.suspend(() => {
    const given = typeof options === "function" ? options() : options
    // oxlint-disable-next-line eslint/no-console -- so that a stop is seen where there is no onError
    return makeClient(given, (error) => console.error(error)).pipe(
      Effect.provideServiceEffect(PublishQueue, makeQueue(given.queue)),
      Scope.provide(scope)
    )
  })
  const get = () => (client ??= Effect.runSync(build))
  return from(
    get,
    () => client,
    () => {
      // One that was never used is made too, so that using it later says that it is closed.
      get()
      return Effect.runPromise(Scope.close(scope, Exit.void))
    }
  )
}

/**
 * A plain client over one that an Effect application owns; `close` leaves that one alone.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromClient = (client: RealtimeClient["Service"]): PlainClient =>
  from(
    () => client,
    () => client,
    async () => {}
  )
