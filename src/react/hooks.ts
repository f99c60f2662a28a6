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
import type { Channel } from "../Channel.ts"
import * as Collector from "../client/Collector.ts"
import type * as Connection from "../client/Connection.ts"
import { idle } from "../client/internal/connection.ts"
import { report } from "../client/internal/platform.ts"
import type { Handler } from "../client/PlainClient.ts"
import type { SourceState } from "../Protocol.ts"
import type { Gap } from "../RealtimeEvent.ts"
import { useLatestRef, useClient, useReadable } from "./internal/client.ts"
import { type Keyed, nameOf, useCollector, useMade } from "./internal/collector.ts"
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
 * Looks at the link now, cuts a wait short, and starts again after `stopped`: whatever is mounted
 * then goes on from where it was. The same function in every render.
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
export interface WebSocketOptions {
  /** Events may be missing before this point: re-read the state. */
  readonly onGap?: ((gap: Gap) => void) | undefined
  /**
   * The channel was refused or the connection stopped, the handler threw, or a publish failed.
   * Default: `reportError` for what was refused or thrown; a stopped connection is told once, by the
   * `onError` of the client, and a failed publish by its promise.
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
 * Calls `handler` for each event of a channel while the component is mounted, and sends to it.
 *
 * The handler of the latest render is the one called; a new handler or new options do not subscribe
 * again. A channel given as a string takes and gives any JSON.
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
export const useWebSocket: {
  <A, Publish extends boolean>(
    channel: Channel<A, Publish>,
    handler: Handler<A>,
    options?: WebSocketOptions
  ): WebSocketHandle<[Publish] extends [true] ? Send<A> : ReadOnly>
  (
    channel: string,
    handler: Handler<unknown>,
    options?: WebSocketOptions
  ): WebSocketHandle<Send<unknown>>
} = <A>(channel: Channel<A, true> | string, handler: Handler<A>, options?: WebSocketOptions) => {
  const connection = useConnection()
  const name = nameOf(channel)
  const latest = useLatestRef({ ...options, handler, name })
  const enabled = options?.enabled !== false
  const { listen, send } = useMade(channel, undefined, (client) => ({
    listen: () => {
      // Once another channel is shown, nothing of this one is told any more.
      const now = () => (latest.current.name === name ? latest.current : undefined)
      return client.listen<A>(
        channel as Channel<A>,
        (payload, event) => now()?.handler(payload, event),
        {
          onGap: (gap) => now()?.onGap?.(gap),
          onError: (error) => now() && (latest.current.onError ?? report)(error)
        }
      )
    },
    send: sending<A>(client, channel, (error) => latest.current.onError?.(error))
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
export const useChannel: {
  <A, S>(channel: Channel<A>, options: ChannelOptions<S, A>): Collector.Collected<S>
  <S>(channel: string, options: ChannelOptions<S, unknown>): Collector.Collected<S>
} = <A, S>(channel: Channel<A> | string, options: ChannelOptions<S, A>) =>
  useCollector(channel, options, (client, latest) =>
    Collector.make(client, channel as Channel<A>, latest)
  )

/**
 * The payload of the latest event of a channel: at once where another component has it already, else
 * `undefined` before the first.
 *
 * @category hooks
 * @since 0.1.0
 */
export const useLatest: {
  <A>(channel: Channel<A>, options?: LatestOptions): Collector.Collected<A | undefined>
  (channel: string, options?: LatestOptions): Collector.Collected<unknown>
} = <A>(channel: Channel<A> | string, options: LatestOptions = {}) =>
  useCollector(channel, options, (client, latest) =>
    Collector.latest(client, channel as Channel<A>, latest)
  )
