/**
 * The rows of a table's channel, by their keys: one store for each channel with its filter, shared by all
 * that watch it, and kept for a while after the last one has left.
 *
 * In: states and changes as the wire has them. Out: rows, each decoded once; a row or an array that did
 * not change stays the same object. A row has the JSON of its key columns as its name. A row that its Schema
 * rejects is left out and named, as the server does it in a state.
 *
 * A store goes on from its position when it joins again. Its rows are replaced when the last frame of a
 * state is here; changes that arrive between its frames are applied then. A state may be older than the
 * rows, because the server shares it: then they are replaced when the changes that it lacks are here again.
 * Nothing is shown of a tick of the server until its last change is here, so no transaction is shown in part.
 *
 * @since 0.1.0
 */
import * as Result from "effect/Result"
import type { Table } from "../ChannelBase.ts"
import { covers, isMidway, readDurable, seenEvent } from "./cursorText.ts"
import type { InvalidChange } from "../RealtimeEvent.ts"
import type {
  Asked,
  Change,
  Ended,
  Host,
  RowListener,
  Rows,
  RowsChannel,
  Store,
  Watcher
} from "./rowTypes.ts"

/** A row as it is kept: with its JSON, and decoded, or with its key where the Schema rejects it. */
interface Entry {
  readonly text: string
  readonly row?: unknown
  readonly key?: unknown
}

/** What names an event. */
type EventName = Parameters<ReturnType<typeof seenEvent>>[0]

/** A state that is not shown yet. */
interface Arriving {
  readonly cursor: string
  readonly entries: Map<string, Entry>
  /** Those between its frames. */
  changes: Array<Change>
  /** Its last frame is here. */
  isWhole: boolean
  /** What the rows have of the events behind it. */
  lacks: ReadonlyArray<EventName>
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

/** Names a store among those of a client. */
const idOf = (table: RowsTable, { codec, name }: RowsChannel, { key, where }: Asked) => [
  name,
  codec,
  key,
  JSON.stringify(Result.merge(table.where(name, where)))
]

/** The part of a table that is used here. */
export type RowsTable = Pick<Table, "key" | "rowCodec" | "where">

export const find = (table: RowsTable, { stores }: Host, channel: RowsChannel, asked: Asked) => {
  const id = idOf(table, channel, asked)
  return Array.from(stores).find(({ is }) => is(id))
}

export const make = (
  table: RowsTable,
  { after, linger, listen, look, stores }: Host,
  channel: RowsChannel,
  asked: Asked
): Store => {
  const id = idOf(table, channel, asked)
  const filter = table.where(channel.name, asked.where)
  let entries = new Map<string, Entry>()
  let arriving: Arriving | undefined
  /** `entries` has a whole state, and all that followed it up to `at` unless there was a gap. */
  let isWhole = false
  let at: string | undefined
  /** The position after the last gap, until a state has it. */
  let gapAt: string | undefined
  /** Events are missing in `entries`: they are not shown until a state takes their place. */
  let isTorn = false
  /** The events of the latest tick of the server, without those before a gap. */
  let latest: ReadonlyArray<EventName> = []
  /** The promises of a state that is asked for. */
  let wanted: Array<Wanted> = []
  let active = false
  let refusal: unknown
  let ended: Ended | undefined
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
      const decoded = table.rowCodec.decode(data, channel.name)
      const values = valuesOf(data)
      entry = Result.isSuccess(decoded)
        ? { text, row: decoded.success }
        : { text, key: Object.fromEntries(table.key.map((column, i) => [column, values[i]])) }
      isChanged = true
    }
    into.set(name, entry)
  }

  const apply = (into: Map<string, Entry>, { data, key, name }: Change) => {
    if (data !== undefined) put(into, name, data)
    else if (key !== undefined) {
      const known = entries.get(name)
      isChanged = true
      into.set(name, known !== undefined && "key" in known ? known : { text: "", key })
    } else if (into.delete(name)) isChanged = true
  }

  /** What a gap says of the row that it is about. */
  const missing = ({ key, operation }: InvalidChange): Change =>
    operation === "DELETE" ? { name: nameOf(key) } : { name: nameOf(key), key }

  /** Shows the state that has arrived, once it has all that the rows have. */
  const replace = () => {
    if (!arriving?.isWhole || at === undefined || isHeld()) return
    const isIn = seenEvent(readDurable(at))
    arriving.lacks = arriving.lacks.filter((event) => !isIn(event))
    if (arriving.lacks.length > 0) return
    entries = arriving.entries
    isWhole = isChanged = true
    isTorn = false
    if (gapAt !== undefined && covers(arriving.cursor, gapAt) !== false) gapAt = undefined
    arriving = undefined
    settle(({ resolve }) => resolve())
  }

  /** The position is in the middle of a tick: its changes are shown at its end. */
  const isHeld = () => isMidway(at ?? "")

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
    if (arriving?.isWhole !== false) return
    gapAt ??= somewhere
    self.shown()
    isTorn = true
    arriving = undefined
  }

  const listener: RowListener = {
    onEvents: (batch) => {
      arrive()
      const names: Array<EventName> = isHeld() ? [...latest] : []
      const { cursor } = batch.at(-1)!
      // What is whole now is shown, also where the rest of this batch is not.
      if (isMidway(cursor!) || batch.some((event) => event._tag === "Gap")) self.shown()
      at = cursor
      for (const event of batch) {
        const isGap = event._tag === "Gap"
        if (isGap && event.change === undefined) {
          // The state of other rights has the gap, also an older one that the server shares.
          gapAt = event.reason === "rights" ? somewhere : at
          isTorn = true
          names.length = 0
          latest = []
          // What is before the gap may not come again.
          if (arriving !== undefined) arriving.lacks = []
        } else {
          const change = isGap ? missing(event.change!) : event.payload
          names.push(isGap ? event.change! : event)
          if (arriving?.isWhole === false) arriving.changes.push(change)
          else if (arriving !== undefined) apply(arriving.entries, change)
          else if (isWhole) apply(entries, change)
        }
      }
      replace()
      if (isWhole && arriving === undefined) latest = names
      changed()
    },
    onCursor: (cursor) => {
      // The subscription may have begun anew, and then the rest of a state does not come.
      depart()
      arrive()
      at = cursor
      replace()
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
      for (const { onEnd } of Array.from(watchers)) onEnd(error as never)
    },
    lacks: () => {
      if (arriving !== undefined) return arriving.isWhole ? 0 : 2
      return !isWhole || gapAt !== undefined ? 2 : wanted.length > 0 ? 1 : 0
    },
    onState: ({ cursor, id, invalid = [], more, rows }, isFirst) => {
      arrive()
      if (isFirst) {
        const isIn = seenEvent(readDurable(cursor))
        const lacks = latest.filter((event) => !isIn(event))
        arriving = { cursor, entries: new Map(), changes: [], isWhole: false, lacks }
        // The rest of the tick is not for these rows.
        isTorn ||= isHeld()
        at = cursor
        // Asked for after the gap: if it does not have the gap, the server sends that again, or has lost it.
        if (id !== undefined && gapAt !== undefined) gapAt = somewhere
      }
      if (arriving === undefined) return
      for (const row of rows) put(arriving.entries, nameOf(row), row)
      for (const key of invalid) arriving.entries.set(nameOf(key), { text: "", key })
      if (!more) {
        for (const change of arriving.changes) apply(arriving.entries, change)
        arriving.changes = []
        arriving.isWhole = true
        replace()
      }
      changed()
    }
  }

  const changes = {
    ...channel,
    codec: {},
    fault: channel.fault ?? (Result.isFailure(filter) ? (filter.failure as never) : undefined),
    decode: (json: unknown) => {
      const { data, key, operation, truncated } = Object(json)
      const isGone = operation === "DELETE"
      // The row is in the state that follows.
      if (truncated === true && !isGone) return Result.fail(undefined)
      // A row that left a filter may have its key only.
      const named = data ?? key
      return valuesOf(named).includes(undefined)
        ? Result.fail(undefined)
        : Result.succeed({ name: nameOf(named), data: isGone ? undefined : data })
    }
  }

  const join = () => {
    const from = listener.lacks() > 1 ? undefined : at
    leave = listen(changes, listener, from, Result.getOrUndefined(filter), listener)
  }

  const self: Store = {
    is: (other) => other.every((one, index) => Object.is(one, id[index])),
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
      if (isChanged && !isTorn && !isHeld()) {
        isChanged = false
        const good: Array<unknown> = []
        const bad: Array<unknown> = []
        for (const entry of entries.values()) {
          if ("row" in entry) good.push(entry.row)
          else bad.push(entry.key)
        }
        rows = same(good, rows)
        invalid = same(bad, invalid)
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
    watch: (watcher) => {
      dropping?.()
      stores.add(self)
      watchers.add(watcher)
      if (leave === undefined) join()
      else if (ended !== undefined) watcher.onEnd(ended as never)
      return () => {
        if (!watchers.delete(watcher) || watchers.size > 0) return
        leave?.()
        leave = undefined
        depart()
        settle(({ resolve }) => resolve())
        dropping = after(linger, () => stores.delete(self))
      }
    },
    follow: (onRows, onEnd) => {
      let last: unknown
      const onChange = () => {
        const rows = self.shown()
        if (rows === last) return
        last = rows
        onRows(rows)
      }
      onChange()
      return self.watch({ onChange, onEnd })
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
