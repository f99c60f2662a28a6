/**
 * The rows of a store as a value that changes once in a frame.
 *
 * @since 0.1.0
 */
import type { Collection, Loaded, Rows, TableChannel } from "../Rows.ts"
import * as Cell from "./cell.ts"
import { inNextFrame } from "./platform.ts"
import type { Asked, RowStores, Store } from "./rowStores.ts"

export const make = <R>(stores: RowStores, channel: TableChannel, asked: Asked): Collection<R> => {
  let store: Store | undefined
  const reload = async () => store?.reload()
  const loaded = (rows: Rows<unknown>) => ({ ...rows, reload }) as Loaded<R>
  const onServer = loaded({ rows: [], status: "loading", error: undefined, invalid: [] })
  let shown = stores.find(channel, asked)?.shown()
  const cell = Cell.make(shown ? loaded(shown) : onServer)
  const show = () => {
    const now = store!.shown()
    if (now === shown) return
    shown = now
    cell.set(loaded(now))
  }
  let isDirty = false
  const onChange = () => {
    if (isDirty) return
    isDirty = true
    inNextFrame(() => {
      isDirty = false
      show()
    })
  }

  let readers = 0
  let leave: (() => void) | undefined
  return {
    getSnapshot: cell.getSnapshot,
    getServerSnapshot: () => onServer,
    subscribe: (listener) => {
      const forget = cell.subscribe(listener)
      if (readers++ === 0) {
        store = stores.of(channel, asked, store)
        leave = store.watch({ onChange, onEnd: onChange })
        show()
      }
      return () => {
        forget()
        if (--readers > 0) return
        leave!()
        show()
      }
    }
  }
}
