"use client"
/**
 * The rows of a table as a React hook.
 *
 * @since 0.1.0
 */
import * as Result from "effect/Result"
import { useCallback, useMemo, useSyncExternalStore } from "react"
import type { RowOf, Where } from "../Channel.ts"
import type { Loaded, TableChannel } from "../client/Rows.ts"
import { useLatestRef, useMade } from "./internal/client.ts"
import type { Keyed } from "./internal/collector.ts"

/**
 * Options of `useRows`.
 *
 * @category options
 * @since 0.1.0
 */
export interface RowsOptions<C> extends Keyed {
  /**
   * Which rows, by equality: `{ status: ["new", "packed"], owner: null }`. Compared by its content. With
   * another filter the same render shows `loading`, or what another component has already.
   */
  readonly where?: Where<C> | undefined
  /** Whether to keep the rows current, default `true`. */
  readonly enabled?: boolean | undefined
}

const nothing = () => {}

/**
 * The rows of a table, kept current: the server sends the state, and every change behind it.
 *
 * All changes that come between two frames make one render, and a row is the same object until it changes
 * itself. Components with equal filters share one subscription and the rows. Rendering on a server gives
 * `loading`. After a reconnect the rows go on from where they were.
 *
 * **Example** (The new orders)
 *
 * ```tsx
 * const { rows, status } = useRows(Orders, { where: { status: "new" } })
 * ```
 *
 * @category hooks
 * @since 0.1.0
 */
export const useRows = <C extends TableChannel>(
  channel: C,
  { enabled = true, key, where }: RowsOptions<C> = {}
): Loaded<RowOf<C>> => {
  const filter = JSON.stringify(Result.merge(channel.table.where(channel.name, where)))
  const made = useMade(channel, [filter, ...(Array.isArray(key) ? key : [key])], (client) =>
    client.rows(channel, { where, key })
  )
  const subscribe = useCallback<typeof made.subscribe>(
    (onChange) => (enabled ? made.subscribe(onChange) : nothing),
    [made, enabled]
  )
  const shown = useSyncExternalStore(subscribe, made.getSnapshot, made.getServerSnapshot)
  const latest = useLatestRef(shown)
  // A handler of an earlier render reloads what is shown now, also under another filter.
  const reload = useCallback(() => latest.current.reload(), [latest])
  return useMemo(() => ({ ...shown, reload }), [shown, reload])
}
