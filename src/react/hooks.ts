"use client"
/**
 * Channels as React hooks: events to a handler, events as a value, the state of the connection.
 *
 * Every event reaches the handler or the reducer, in order and once; renders are bounded however
 * many come. Rendering on a server does nothing. For React 18 and 19.
 *
 * @since 0.1.0
 */
import { useEffect } from "react"
import type { Any, Payload } from "../Channel.ts"
import * as Collector from "../client/Collector.ts"
import type * as Connection from "../client/Connection.ts"
import { idle } from "../client/internal/connectionMachine.ts"
import { report } from "../internal/callbacks.ts"
import type { BatchHandler, Handler, PublishedTo } from "../client/PlainClient.ts"
import type { SourceState } from "../Protocol.ts"
import type { Gap } from "../RealtimeEvent.ts"
import { nameOf, useClient, useLatestRef, useMade, useReadable } from "./internal/client.ts"
import { type Keyed, useCollector } from "./internal/collector.ts"
import { sending } from "./internal/sending.ts"

import type { Send } from "./publishing.ts"

export type { Keyed } from "./internal/collector.ts"

/**
 * What the page's socket is doing: `idle`, `connecting`, `open`, `waiting` or `stopped`, with the reason.
 *
 * @category hooks
 * @since 0.1.0
 */
export const useConnection = (): Connection.State => useReadable(useClient().connection, idle)

/**
 * Looks at the link now, cuts a wait short, and starts again after `stopped`: each mounted hook then goes
 * on from where it was. The same function in every render.
 *
 * @category hooks
 * @since 0.1.0
 */
export const useReconnect = (): (() => void) => useClient().reconnect

/**
 * Whether the server hears its database.
 *
 * @category hooks
 * @since 0.1.0
 */
export const useSource = (): SourceState => useReadable(useClient().source, "up")

/**
 * Options of `useWebSocket`.
 *
 * @category options
 * @since 0.1.0
 */
export interface WebSocketOptions<in A = unknown> {
  /** Events may be missing before this point: re-read the state. */
  readonly onGap?: ((gap: Gap) => void) | undefined
  /**
   * Beside `handler` or in its place: called once per frame with all its events, after `handler`. Rows
   * that one statement changes arrive in few frames.
   */
  readonly onBatch?: BatchHandler<A> | undefined
  /**
   * The channel was refused or the connection stopped, the handler threw, or a publish failed.
   * Default: `reportError` for what was refused or thrown; the `onError` of the client receives
   * a stopped connection once, and the promise of a publish its failure.
   */
  readonly onError?: ((error: unknown) => void) | undefined
  /** Whether to listen, default `true`. Sending works either way. */
  readonly enabled?: boolean | undefined
}

/**
 * Stands where `sendNotification` would be on a channel that clients may not publish to. Define the
 * channel with `publish: true` to send.
 *
 * @category models
 * @since 0.1.0
 */
export interface ReadOnly {
  readonly "this channel is not defined with publish: true": never
}

/**
 * What `useWebSocket` returns: a function that publishes to the channel, and the state of the connection.
 *
 * @category models
 * @since 0.1.0
 */
export interface WebSocketHandle<out SendNotification> {
  readonly sendNotification: SendNotification
  readonly connection: Connection.State
}

/**
 * What sends to a channel: a function, or `ReadOnly` where clients may not publish.
 *
 * @category models
 * @since 0.1.0
 */
export type SendTo<C> = C extends string | { readonly publish: true }
  ? Send<Payload<C>, PublishedTo<C>>
  : ReadOnly

/**
 * Calls `handler` for each event of a channel while the component is mounted, and sends to it.
 *
 * The handler of the latest render is the one called; a new handler or new options do not subscribe
 * again. A channel given as a string takes and gives any JSON. `onBatch` is for work that is done once
 * for many events; `handler` may be `undefined` beside it.
 *
 * **Example** (Showing notices)
 *
 * ```tsx
 * const { connection } = useWebSocket(Channel.systemNotifications, (notice) => toast(notice.message))
 * ```
 *
 * @category hooks
 * @since 0.1.0
 */
export const useWebSocket = <C extends Any | string>(
  channel: C,
  handler: Handler<Payload<C>> | undefined,
  options?: WebSocketOptions<Payload<C>>
): WebSocketHandle<SendTo<C>> => {
  const connection = useConnection()
  const name = nameOf(channel)
  const latest = useLatestRef({ ...options, handler, name })
  const enabled = options?.enabled !== false
  const { listen, send } = useMade(channel, undefined, (client) => ({
    listen: () => {
      // Once another channel is shown, the handlers hear nothing of this one any more.
      const now = () => (latest.current.name === name ? latest.current : undefined)
      return client.listen(channel, (payload, event) => now()?.handler?.(payload, event), {
        onBatch: (payloads, events) => now()?.onBatch?.(payloads, events),
        onGap: (gap) => now()?.onGap?.(gap),
        onError: (error) => now() && (latest.current.onError ?? report)(error)
      })
    },
    send: sending(client, channel, (error) => latest.current.onError?.(error))
  }))
  useEffect(() => (enabled ? listen() : undefined), [listen, enabled])
  return { sendNotification: send as never, connection }
}

/**
 * Options of `useLatest`: those of `Collector.latest`, and a key. The latest render's count.
 *
 * @category options
 * @since 0.1.0
 */
export interface LatestOptions extends Collector.LatestOptions, Keyed {}

/**
 * Options of `useChannel`: those of a `Collector`, and a key. The latest render's count; `initial` counts
 * once.
 *
 * @category options
 * @since 0.1.0
 */
export interface ChannelOptions<S, A> extends Collector.Options<S, A>, Keyed {}

/**
 * Collects the events of a channel into a value.
 *
 * All events that come between two frames make one render (in a hidden page those of 100 ms). `status`
 * tells `loading` from empty, and `stale` from current. A page that a server rendered goes on from its
 * `Snapshot`, given as `initial`.
 *
 * **Example** (Keeping a list)
 *
 * ```tsx
 * const { value, status } = useChannel(OrderUpdates, {
 *   initial: [],
 *   load: fetchOrders,
 *   reduce: applyUpdate
 * })
 * ```
 *
 * @category hooks
 * @since 0.1.0
 */
export const useChannel = <C extends Any | string, S>(
  channel: C,
  options: ChannelOptions<S, Payload<C>>
): Collector.Collected<S> =>
  useCollector(channel, options, (client, latest) => Collector.make(client, channel, latest))

/**
 * The payload of the latest event of a channel: at once where another component has it already, else the
 * last one that the server still has, or `undefined`. It is `loading` until then. See `Collector.latest`.
 *
 * @category hooks
 * @since 0.1.0
 */
export const useLatest = <C extends Any | string>(
  channel: C,
  options: LatestOptions = {}
): Collector.Collected<Payload<C> | undefined> =>
  useCollector(channel, options, (client, latest) => Collector.latest(client, channel, latest))
