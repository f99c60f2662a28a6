"use client"
/**
 * Publishing as React hooks: what sends to a channel without listening to it, and what waits to be sent.
 *
 * @since 0.1.0
 */
import type { Any, Payload } from "../Channel.ts"
import type { Size } from "../client/PublishQueue.ts"
import type { PublishedTo } from "../client/PlainClient.ts"
import type { PublishOptions } from "../client/RealtimeClient.ts"
import { useClient, useLatestRef, useMade, useReadable } from "./internal/client.ts"
import { sending } from "./internal/sending.ts"

/**
 * Sends a payload to the hook's channel. The promise resolves when the server said that it happened
 * and rejects with a `PublishError`; ignoring it is fine, also when it rejects. On a volatile channel it
 * resolves with `published` or `dropped`.
 *
 * @category models
 * @since 0.1.0
 */
export type Send<in A, out Outcome = void> = (
  payload: A,
  options?: PublishOptions
) => Promise<Outcome>

/**
 * Options of `usePublish`.
 *
 * @category options
 * @since 0.1.0
 */
export interface PublishHookOptions {
  /** A publish failed (`PublishError`). Default: only its promise rejects. */
  readonly onError?: ((error: unknown) => void) | undefined
}

/**
 * Sends to a channel and does not listen to it. The same function in every render, for one channel.
 *
 * Without a connection a payload waits in the queue, for 60 s at most, and is published once; on a volatile
 * channel it is dropped. A channel given as a string takes any JSON.
 *
 * **Example** (Sending a message)
 *
 * ```tsx
 * const send = usePublish(Room("lobby"))
 * return <button onClick={() => send({ text: "hello" })}>Hello</button>
 * ```
 *
 * @category hooks
 * @since 0.1.0
 */
export const usePublish = <C extends (Any & { readonly publish: true }) | string>(
  channel: C,
  options?: PublishHookOptions
): Send<Payload<C>, PublishedTo<C>> => {
  const latest = useLatestRef(options)
  return useMade(channel, undefined, (client) =>
    sending(client, channel, (error) => latest.current?.onError?.(error))
  )
}

const nothing: Size = { messages: 0, bytes: 0 }

/**
 * What waits in the publish queue of the page's client, on its way included: to say "3 unsent messages", or
 * to ask before the page is left.
 *
 * @category hooks
 * @since 0.1.0
 */
export const usePublishQueue = (): Size => useReadable(useClient().queue, nothing)
