/**
 * A collector of the page's client as the value of a hook, made once for a client, a channel and a key.
 */
import { useCallback, useInsertionEffect, useMemo, useSyncExternalStore } from "react"
import type * as Collector from "../../client/Collector.ts"
import type { PlainClient } from "../../client/PlainClient.ts"
import { useLatestRef, useMade } from "./client.ts"

/**
 * Says when a value begins anew although the channel is the same: a filter in `load`, a page of a list.
 *
 * @category options
 * @since 0.1.0
 */
export interface Keyed {
  /**
   * Compared by `Object.is`, an array by its elements. With another key the value begins with `initial`
   * and is read again, in the same render: no render shows the value of one key under another.
   */
  readonly key?: unknown
}

const nothing = () => {}

/** The options of a collector that is shown no more: it calls nothing of the one that took its place. */
const over = {
  reduce: (value: unknown) => value,
  // A component may reload after it is gone.
  load: nothing,
  onError: nothing
} as never

export const useCollector = <Options extends Keyed & { readonly load?: unknown }, S>(
  channel: { readonly name: string } | string,
  options: Options,
  make: (client: PlainClient, latest: () => Options) => Collector.Collector<S>
): Collector.Collected<S> => {
  const { collector, latest } = useMade(channel, options.key, (client) => {
    const latest = { current: options }
    return { collector: make(client, () => latest.current), latest }
  })
  useInsertionEffect(() => {
    latest.current = options
    return () => {
      latest.current = over
    }
  })
  // A `load` that appears in a later render is called, because this subscribes once more.
  const hasLoad = options.load !== undefined
  const subscribe = useCallback<typeof collector.subscribe>(
    (onChange) => collector.subscribe(onChange),
    // oxlint-disable-next-line react-hooks/exhaustive-deps -- subscribes anew for `hasLoad`
    [collector, hasLoad]
  )
  const collected = useSyncExternalStore(
    subscribe,
    collector.getSnapshot,
    collector.getServerSnapshot
  )
  const shown = useLatestRef(collected)
  // A handler of an earlier render reloads what is shown now, also under another key.
  const reload = useCallback<typeof collected.reload>((load) => shown.current.reload(load), [shown])
  return useMemo(() => ({ ...collected, reload }), [collected, reload])
}
