"use client"
/**
 * A result that arrives in parts, as a React hook.
 *
 * @since 0.1.0
 */
import { useMemo } from "react"
import type { Channel, QueryResult } from "../Channel.ts"
import * as QueryStream from "../client/QueryStream.ts"
import type { LatestOptions, ReadOnly } from "./hooks.ts"
import { useClient } from "./internal/client.ts"
import { useCollector } from "./internal/collector.ts"
import { sending } from "./internal/sending.ts"
import type { Send } from "./publishing.ts"

/**
 * What `useQueryStream` returns.
 *
 * @category models
 * @since 0.1.0
 */
export interface QueryStreamHandle<out A, out Stop> {
  /** All parts so far, joined; the whole once the work has ended. `undefined` before the first part. */
  readonly value: A | undefined
  /**
   * `loading` until the channel is active, `waiting` until the work begins, then `running`, then how it
   * ended. `error` also when the server rejects the channel or the connection stopped.
   */
  readonly status: "loading" | QueryStream.Progress<A>["status"]
  /** Whether parts may be missing now: after a gap, or while the link is away. */
  readonly isStale: boolean
  /** Why the work failed, or why the value does not follow it. */
  readonly error: unknown
  /** Asks the node that runs the work to stop it. `status` is `stopped` when it has. */
  readonly stop: Stop
}

/**
 * Shows a result while it arrives. A page that subscribes later, or reloads, begins with all parts so far.
 *
 * The server starts the work with `QueryResults.stream`, on a durable channel. `stop` needs a channel with
 * `publish: true`, and the right to publish.
 *
 * **Example** (An answer while it is written)
 *
 * ```tsx
 * const { value, status, stop } = useQueryStream(Answer(id))
 * return <p>{value} {status === "running" && <button onClick={stop}>Stop</button>}</p>
 * ```
 *
 * @category hooks
 * @since 0.1.0
 */
export const useQueryStream = <A, Publish extends boolean>(
  channel: Channel<QueryResult<A>, Publish>,
  options: LatestOptions = {}
): QueryStreamHandle<A, [Publish] extends [true] ? () => Promise<void> : ReadOnly> => {
  const client = useClient()
  const collected = useCollector(channel, options, (client, latest) =>
    QueryStream.make(client, channel as Channel<QueryResult<A>>, latest)
  )
  const { name } = channel
  const stop = useMemo(() => {
    const send = sending(client, channel as Channel<QueryResult<A>>, () => {}) as Send<
      unknown,
      void
    >
    return () => send({ status: "stop" })
    // oxlint-disable-next-line react-hooks/exhaustive-deps -- only another name is another channel
  }, [client, name])
  const { value, status, error } = collected.value
  const isOver = status !== "waiting" && status !== "running"
  return {
    value,
    status: isOver
      ? status
      : collected.status === "error" || collected.status === "loading"
        ? collected.status
        : status,
    isStale: !isOver && collected.status === "stale",
    error: error ?? (isOver ? undefined : collected.error),
    stop: stop as never
  }
}
