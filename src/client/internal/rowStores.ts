/**
 * The rows of a table's channel, by their keys: one store for each channel with its filter, shared by all
 * that watch it, and kept for a while after the last one has left.
 *
 * In: states and changes as the wire has them. Out: rows, each decoded once; a row or an array that did
 * not change stays the same object. A row has the JSON of its key columns as its name. A row that its Schema
 * rejects is left out and named, as the server does it in a state.
 *
 * A store goes on from its position when it joins again. Its rows are replaced when the last frame of a
 * state is here; changes that arrive between its frames are applied then.
 *
 * @since 0.1.0
 */
import * as Result from "effect/Result"
import type { Channel } from "../../Channel.ts"
import type { Refused } from "../ClientError.ts"
import { covers } from "../../internal/cursorText.ts"
import type { Rows, TableChannel } from "../Rows.ts"
import type { Collection, Listener, SubscribeError } from "./listener.ts"
import type { Subscriptions } from "./subscriptions.ts"
import type { Time } from "./time.ts"

export interface Watcher {
  /** The rows or their status may have changed. */
  readonly onChange: () => void
  /** As of a listener: nothing follows. */
  readonly onEnd: (error: SubscribeError) => void
}

export interface Store {
  readonly shown: () => Rows<unknown>
  /** Keeps the rows current; gives the way to leave. */
  readonly watch: (watcher: Watcher) => () => void
  readonly reload: () => Promise<void>
}

/** Which rows a watcher asks for. */
export interface Asked {
  readonly where?: object | undefined
  readonly key?: unknown
}

export interface RowStores {
  /** The store that is open for these rows. */
  readonly find: (channel: TableChannel, asked: Asked) => Store | undefined
  /** That one, else `mine`, which may have been dropped, else a new one. */
  readonly of: (channel: TableChannel, asked: Asked, mine?: Store) => Store
}

/** A row as it is kept: with its JSON, and decoded, or with its key where the Schema rejects it. */
interface Entry {
  readonly text: string
  readonly row?: unknown
  readonly key?: unknown
}

/** A row that was written, or without data one that is gone. */
interface Change {
  readonly name: string
  readonly data: unknown
}

/** A state whose last frame is not here. */
interface Arriving {
  readonly entries: Map<string, Entry>
  readonly changes: Array<Change>
}

interface Wanted {
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
}

/** A gap whose position is not known. */
const somewhere = ""

const same = <A>(list: ReadonlyArray<A>, before: ReadonlyArray<A>): ReadonlyArray<A> =>
  list.length === before.length && list.every((value, index) => value === before[index])
    ? before
    : list

export const make = (
  { listen, look }: Pick<Subscriptions, "listen" | "look">,
  { after }: Time,
  linger: number
): RowStores => {
  /** Those that are watched, or were until a short time ago. */
  const stores = new Set<Store & { readonly is: (id: ReadonlyArray<unknown>) => boolean }>()

  const filterOf = (channel: TableChannel, { key, where }: Asked) => {
    const filter = channel.table.where(channel.name, where)
    return { filter, id: [channel.name, channel.codec, key, JSON.stringify(Result.merge(filter))] }
  }

  const create = (channel: TableChannel, asked: Asked): Store => {
    const { table } = channel
    const { filter, id } = filterOf(channel, asked)
    let entries = new Map<string, Entry>()
    let arriving: Arriving | undefined
    /** `entries` has a whole state, and all that followed it up to `at` unless there was a gap. */
    let isWhole = false
    let at: string | undefined
    /** The position after the last gap, until a state has it. */
    let gapAt: string | undefined
    /** The promises of a state that is asked for. */
    let wanted: Array<Wanted> = []
    let active = false
    let refusal: Refused | undefined
    let ended: SubscribeError | undefined
    let leave: (() => void) | undefined
    let dropping: (() => void) | undefined
    const watchers = new Set<Watcher>()
    /** The entries may differ from `shown`. */
    let isChanged = false
    let shown: Rows<unknown> = { rows: [], status: "loading", error: undefined, invalid: [] }

    const valuesOf = (row: unknown) => table.key.map((column) => Object(row)[column])
    const nameOf = (row: unknown) => JSON.stringify(valuesOf(row))

    const put = (into: Map<string, Entry>, name: string, data: unknown) => {
      const text = JSON.stringify(data)
      let entry = entries.get(name)
      if (entry?.text !== text) {
        const decoded = table.rows.decode(data, channel.name)
        const values = valuesOf(data)
        entry = Result.isSuccess(decoded)
          ? { text, row: decoded.success }
          : { text, key: Object.fromEntries(table.key.map((column, i) => [column, values[i]])) }
        isChanged = true
      }
      into.set(name, entry)
    }

    const apply = ({ data, name }: Change) => {
      if (data !== undefined) put(entries, name, data)
      else if (entries.delete(name)) isChanged = true
    }

    const changed = () => {
      for (const { onChange } of Array.from(watchers)) onChange()
    }

    const settle = (how: (one: Wanted) => void) => {
      wanted.forEach(how)
      wanted = []
    }

    /** The subscription is active. */
    const arrive = () => {
      active = true
      refusal = ended = undefined
    }

    /** Nothing is received any more, so a state that was arriving is lost. */
    const depart = () => {
      active = false
      if (arriving !== undefined) gapAt ??= somewhere
      arriving = undefined
    }

    const listener: Listener<Change> = {
      onEvents: (batch) => {
        arrive()
        at = batch.at(-1)!.cursor
        for (const event of batch) {
          if (event._tag === "Gap") gapAt = at
          else if (arriving !== undefined) arriving.changes.push(event.payload)
          else if (isWhole) apply(event.payload)
        }
        changed()
      },
      onCursor: (cursor) => {
        arrive()
        at = cursor
        changed()
      },
      onInactive: (error) => {
        depart()
        refusal = error
        ended = undefined
        changed()
      },
      onEnd: (error) => {
        depart()
        ended = error
        // Only a stopped connection subscribes again by itself.
        if (error._tag !== "ConnectionStopped") leave = undefined
        settle(({ reject }) => reject(error))
        changed()
        for (const { onEnd } of Array.from(watchers)) onEnd(error)
      }
    }

    const collection: Collection = {
      lacks: () =>
        !isWhole || gapAt !== undefined || arriving !== undefined ? 2 : wanted.length > 0 ? 1 : 0,
      onState: ({ cursor, invalid = [], more, rows }, isFirst) => {
        arrive()
        if (isFirst) {
          arriving = { entries: new Map(), changes: [] }
          at = cursor
        }
        if (arriving === undefined) return
        for (const row of rows) put(arriving.entries, nameOf(row), row)
        for (const key of invalid) arriving.entries.set(nameOf(key), { text: "", key })
        if (!more) {
          entries = arriving.entries
          arriving.changes.forEach(apply)
          arriving = undefined
          isWhole = isChanged = true
          if (gapAt !== undefined && covers(cursor, gapAt) !== false) gapAt = undefined
          settle(({ resolve }) => resolve())
        }
        changed()
      }
    }

    const changes = {
      ...channel,
      codec: {},
      fault: channel.fault ?? (Result.isFailure(filter) ? filter.failure : undefined),
      decode: (json: unknown) => {
        const { data, key, operation } = Object(json)
        const isGone = operation === "DELETE"
        const named = (isGone && key) || data
        return valuesOf(named).includes(undefined)
          ? Result.fail(undefined)
          : Result.succeed({ name: nameOf(named), data: isGone ? undefined : data })
      }
    } as unknown as Channel<Change>

    const join = () => {
      leave = listen(
        changes,
        listener,
        collection.lacks() > 1 ? undefined : at,
        Result.getOrUndefined(filter),
        collection
      )
    }

    const self = {
      is: (other: ReadonlyArray<unknown>) => other.every((one, index) => Object.is(one, id[index])),
      shown: () => {
        const status =
          ended !== undefined
            ? "error"
            : refusal !== undefined
              ? "stale"
              : !isWhole
                ? "loading"
                : active && gapAt === undefined
                  ? "live"
                  : "stale"
        const error = ended ?? refusal
        let { invalid, rows } = shown
        if (isChanged) {
          isChanged = false
          const list = [...entries.values()]
          rows = same(
            list.flatMap((entry) => ("row" in entry ? [entry.row] : [])),
            rows
          )
          invalid = same(
            list.flatMap(({ key }) => key ?? []),
            invalid
          )
        }
        if (
          rows !== shown.rows ||
          invalid !== shown.invalid ||
          status !== shown.status ||
          error !== shown.error
        ) {
          shown = { rows, status, error, invalid }
        }
        return shown
      },
      watch: (watcher: Watcher) => {
        dropping?.()
        stores.add(self)
        watchers.add(watcher)
        if (leave === undefined) join()
        else if (ended !== undefined) watcher.onEnd(ended)
        return () => {
          if (!watchers.delete(watcher) || watchers.size > 0) return
          leave?.()
          leave = undefined
          depart()
          settle(({ resolve }) => resolve())
          dropping = after(linger, () => stores.delete(self))
        }
      },
      reload: () => {
        if (watchers.size === 0) return Promise.resolve()
        const over = new Promise<void>((resolve, reject) => wanted.push({ resolve, reject }))
        // A caller may ignore it.
        over.catch(() => {})
        if (leave === undefined) join()
        else if (ended !== undefined) settle(({ reject }) => reject(ended))
        look()
        return over
      }
    }
    return self
  }

  const find: RowStores["find"] = (channel, asked) => {
    const { id } = filterOf(channel, asked)
    return Array.from(stores).find(({ is }) => is(id))
  }
  return {
    find,
    of: (channel, asked, mine) => find(channel, asked) ?? mine ?? create(channel, asked)
  }
}
