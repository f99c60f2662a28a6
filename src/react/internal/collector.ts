/**
 * A collector of the page's client as the value of a hook, made once for a client, a channel and a key.
 */
import { useInsertionEffect, useMemo, useRef, useSyncExternalStore } from "react"
import type * as Collector from "../../client/Collector.ts"
import type { PlainClient } from "../../client/PlainClient.ts"
import { useClient } from "./client.ts"

export const nameOf = (channel: { readonly name: string } | string): string =>
  typeof channel === "string" ? channel : channel.name

const isSame = (one: unknown, other: unknown): boolean =>
  Array.isArray(one) && Array.isArray(other)
    ? one.length === other.length && one.every((value, index) => Object.is(value, other[index]))
    : Object.is(one, other)

/**
 * Made once for a client, a channel and a key: a family makes a new channel with each call, and an equal
 * name is the same.
 */
export const useMade = <Made>(
  channel: { readonly name: string } | string,
  key: unknown,
  make: (client: PlainClient) => Made
): Made => {
  const client = useClient()
  const name = nameOf(channel)
  const shown = useRef(key)
  const sameKey = isSame(shown.current, key) ? shown.current : key
  useInsertionEffect(() => {
    shown.current = sameKey
  })
  // oxlint-disable-next-line react-hooks/exhaustive-deps -- only another name or key is another one
  return useMemo(() => make(client), [client, name, sameKey])
}

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

/** The options of a collector that is shown no more: it calls nothing of the one that took its place. */
const over = { initial: undefined, reduce: (value: unknown) => value, onError: () => {} } as never

export const useCollector = <Options extends Keyed, S>(
  channel: { readonly name: string } | string,
  options: Options,
  make: (client: PlainClient, latest: () => Options) => Collector.Collector<S>
): Collector.Collected<S> => {
  const { collector, give } = useMade(channel, options.key, (client) => {
    let latest = options
    return {
      collector: make(client, () => latest),
      give: (next: Options) => {
        latest = next
      }
    }
  })
  useInsertionEffect(() => {
    give(options)
    return () => give(over)
  })
  return useSyncExternalStore(
    collector.subscribe,
    collector.getSnapshot,
    collector.getServerSnapshot
  )
}
