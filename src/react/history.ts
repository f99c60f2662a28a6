"use client"
/**
 * What a channel had and has, as a React hook: pages backwards that join the live end.
 *
 * @since 0.1.0
 */
import { useSyncExternalStore } from "react"
import type { Any, Payload } from "../Channel.ts"
import * as History from "../client/History.ts"
import { useLatestRef, useMade } from "./internal/client.ts"

/**
 * Options of `useHistory`. The latest render's count.
 *
 * @category options
 * @since 0.1.0
 */
export interface HistoryOptions extends History.Options {}

/**
 * The newest events of a channel, then those that come, in one list without a hole and without a duplicate.
 * `loadMore` reads the page before them while `more`.
 *
 * Events keep their identity, and one frame of the page makes one render at most. After a gap the list is
 * read again, `stale` meanwhile. The channel is live or durable.
 *
 * **Example** (A chat that scrolls back)
 *
 * ```tsx
 * const { events, more, loadMore } = useHistory(Room("lobby"), { limit: 50 })
 * ```
 *
 * @category hooks
 * @since 0.1.0
 */
export const useHistory = <C extends Any | string>(
  channel: C,
  options: HistoryOptions = {}
): History.History<Payload<C>> => {
  const latest = useLatestRef(options)
  const history = useMade(channel, undefined, (client) =>
    History.make(client, channel, () => latest.current)
  )
  return useSyncExternalStore(history.subscribe, history.getSnapshot, history.getServerSnapshot)
}
