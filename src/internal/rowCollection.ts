/**
 * The rows of a table, kept current: the store of a client, and the value of a store that changes once in a
 * frame.
 *
 * @since 0.1.0
 */
import { attempt, report } from "./callbacks.ts"
import { onceTogether } from "./nextFrame.ts"
import * as RowStores from "./rowStores.ts"
import type { Keeper, Loaded, Rows, Store } from "./rowTypes.ts"

export const keeper = (table: RowStores.RowsTable): Keeper => {
  const open: Keeper["open"] = (host, channel, asked, mine) =>
    RowStores.find(table, host, channel, asked) ??
    mine ??
    RowStores.make(table, host, channel, asked)

  const collect: Keeper["collect"] = (host, channel, asked) => {
    let store: Store | undefined
    const reload = async () => store?.reload()
    const onServer: Loaded<unknown> = {
      rows: [],
      status: "loading",
      error: undefined,
      invalid: [],
      reload
    }
    let loaded = onServer
    let shown: Rows<unknown> | undefined
    const show = (of: Store | undefined) => {
      const now = of?.shown()
      if (now === shown) return
      shown = now
      loaded = { ...now!, reload }
      for (const listener of Array.from(listeners)) attempt(listener, report)
    }
    const listeners = new Set<() => void>()
    show(RowStores.find(table, host, channel, asked))

    const onChange = onceTogether(host.due, () => show(store))
    let leave: (() => void) | undefined
    return {
      getSnapshot: () => loaded,
      getServerSnapshot: () => onServer,
      subscribe: (onChanged) => {
        // Wrapped, so that one function registered twice is two registrations.
        const listener = () => onChanged()
        listeners.add(listener)
        if (listeners.size === 1) {
          store = open(host, channel, asked, store)
          leave = store.watch({ onChange, onEnd: onChange })
          show(store)
        }
        return () => {
          if (!listeners.delete(listener) || listeners.size > 0) return
          leave!()
          show(store)
        }
      }
    }
  }
  return { open, collect }
}
