/**
 * The rows of watched tables in memory, and the changes of an open transaction.
 *
 * A transaction works on a `Draft`: it sees its own changes, and other transactions see none of them before
 * its commit. Two that change one row do not wait for each other, as they would in PostgreSQL: the later
 * commit fails. `memoryTable.ts` commits a draft together with its messages, and takes it back when a crash
 * loses them.
 */
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type { Table } from "../../../Channel.ts"
import type { InvalidChannelName, InvalidPayload } from "../../../RealtimeError.ts"
import * as Filters from "../filter.ts"
import { type MemoryRow, MemoryTrigger, type RowMessage, type RowOptions } from "./memoryTrigger.ts"
import { type InvalidFilter, type RowsRequest, StateTooLarge } from "./state.ts"

/** One message that a transaction writes. */
export interface Written {
  readonly channel: string
  /** The payload: JSON as its writer spelled it. */
  readonly text: string
  readonly key?: string | undefined
  /** What the text was made from, compared in its place under the same key. */
  readonly sent?: string | undefined
  /** Of a row the texts by which it is routed and filtered, before and after, as JSON. */
  readonly match?: string | undefined
  /** The trace context of the publisher. */
  readonly trace?: string | undefined
}

/**
 * A change of a row in memory cannot be made.
 *
 * - `exists`: the table has a row with this primary key.
 * - `changed`: another transaction changed the row first, and has committed.
 *
 * @category errors
 * @since 0.1.0
 */
export class RowConflict extends Schema.TaggedError<RowConflict>()("RowConflict", {
  /** The channel of the table. */
  channel: Schema.String,
  /** The primary key, as JSON. */
  key: Schema.String,
  reason: Schema.Literals(["exists", "changed"])
}) {
  override get message(): string {
    const { channel, key, reason } = this
    return reason === "exists"
      ? `The table of channel "${channel}" has a row with the key ${key}.`
      : `Another transaction has changed the row ${key} of the table of channel "${channel}". Run this one again.`
  }
}

/** The options of a table. */
export interface MemoryWatch extends RowOptions {
  readonly channel: { readonly table: Table }
}

/** A table and its committed rows by their keys. */
export interface HeldTable {
  readonly trigger: MemoryTrigger
  readonly rows: Map<string, MemoryRow>
  /** Changes of rows on no route. */
  unrouted: number
}

interface DraftedRow {
  /** The committed row on which the transaction built. */
  readonly before: MemoryRow | undefined
  readonly after: MemoryRow | undefined
}

type Changes = Map<HeldTable, Map<string, DraftedRow>>

/** What a transaction has written so far. */
export class Draft {
  isOpen = true
  readonly written: Array<Written> = []
  readonly changes: Changes = new Map()
  /** How to take each change back, the latest last. */
  readonly #undo: Array<() => void> = []

  /** A channel on which it wrote, for errors; `undefined` as long as it wrote nothing. */
  get channel(): string | undefined {
    const [held] = this.changes.keys()
    return this.written[0]?.channel ?? held?.trigger.table.channel
  }

  /** A savepoint: what it returns goes back to this state. */
  save(): () => void {
    const written = this.written.length
    const changed = this.#undo.length
    return () => {
      this.written.length = written
      while (this.#undo.length > changed) this.#undo.pop()!()
    }
  }

  /** The row with a key, as the transaction sees it. */
  find(held: HeldTable, key: string): MemoryRow | undefined {
    const change = this.changes.get(held)?.get(key)
    return change === undefined ? held.rows.get(key) : change.after
  }

  /** The rows as the transaction sees them, in the order of the primary key. */
  all(held: HeldTable): ReadonlyArray<MemoryRow> {
    const rows = new Map(held.rows)
    for (const [key, { after }] of this.changes.get(held) ?? []) {
      if (after === undefined) rows.delete(key)
      else rows.set(key, after)
    }
    return [...rows.values()].toSorted(held.trigger.compare)
  }

  /** Inserts, changes or deletes a row, with its messages. */
  change(held: HeldTable, before: MemoryRow | undefined, after: MemoryRow | undefined): void {
    if (before !== undefined) this.#set(held, before.key, undefined)
    if (after !== undefined) this.#set(held, after.key, after)
    for (const message of held.trigger.messages(before, after)) this.#write(held, message)
  }

  truncate(held: HeldTable): void {
    for (const { key } of this.all(held)) this.#set(held, key, undefined)
    this.#write(held, held.trigger.truncated)
  }

  #set(held: HeldTable, key: string, after: MemoryRow | undefined): void {
    const rows = this.changes.get(held) ?? new Map<string, DraftedRow>()
    this.changes.set(held, rows)
    const drafted = rows.get(key)
    rows.set(key, { before: drafted === undefined ? held.rows.get(key) : drafted.before, after })
    this.#undo.push(() => {
      if (drafted !== undefined) rows.set(key, drafted)
      else if (rows.delete(key) && rows.size === 0) this.changes.delete(held)
    })
  }

  #write(held: HeldTable, { channel, match, text }: RowMessage): void {
    // As a sequence counts: a transaction that is rolled back counts too.
    if (channel === undefined) held.unrouted++
    else this.written.push({ channel, text, match })
  }
}

/** All tables. */
export class MemoryRows {
  /** By the channel of a table. */
  readonly #options: ReadonlyMap<string, RowOptions>
  readonly #tables = new Map<string, HeldTable>()
  /** How to take each commit back, the latest last. */
  #commits: Array<{ readonly tx: bigint; readonly undo: () => void }> = []

  constructor(watched: ReadonlyArray<MemoryWatch> = []) {
    this.#options = new Map(watched.map((watch) => [watch.channel.table.channel, watch]))
  }

  /** The table of a definition. The first definition of a channel decides. */
  held(table: Table): HeldTable {
    const found = this.#tables.get(table.channel)
    if (found !== undefined) return found
    const trigger = new MemoryTrigger(table, this.#options.get(table.channel))
    const held = { trigger, rows: new Map<string, MemoryRow>(), unrouted: 0 }
    this.#tables.set(table.channel, held)
    return held
  }

  /** The first row of a draft that another transaction has changed since. */
  conflict({ changes }: Draft): RowConflict | undefined {
    for (const [{ rows, trigger }, changed] of changes) {
      for (const [key, { before }] of changed) {
        const { channel } = trigger.table
        if (rows.get(key) !== before) return new RowConflict({ channel, key, reason: "changed" })
      }
    }
    return undefined
  }

  /** Makes the changes of a draft those of all, as part of transaction `tx`. */
  commit({ changes }: Draft, tx: bigint): void {
    const apply = (side: keyof DraftedRow) => {
      for (const [{ rows }, changed] of changes) {
        for (const [key, { [side]: row }] of changed) {
          if (row === undefined) rows.delete(key)
          else rows.set(key, row)
        }
      }
    }
    if (changes.size === 0) return
    apply("after")
    this.#commits.push({ tx, undo: () => apply("before") })
  }

  /** Takes back what transactions from `tx` on have changed, because the database has lost them. */
  takeBack(tx: bigint): void {
    while (this.#commits.length > 0 && this.#commits.at(-1)!.tx >= tx) {
      this.#commits.pop()!.undo()
    }
  }

  /** No transaction below `tx` can be lost any more. */
  settle(tx: bigint): void {
    this.#commits = this.#commits.filter((commit) => commit.tx >= tx)
  }

  /** The rows of a channel that a filter includes, as JSON, in the order of the primary key. */
  read({
    channel,
    filter,
    limits,
    table
  }: RowsRequest): Result.Result<
    ReadonlyArray<string>,
    StateTooLarge | InvalidFilter | InvalidChannelName
  > {
    const { rows, trigger } = this.held(table)
    const fault = trigger.fault(channel, filter)
    if (fault !== undefined) return Result.fail(fault)
    const tooLarge = (limit: StateTooLarge["limit"], most: number, found: number) =>
      Result.fail(new StateTooLarge({ channel, limit, most, found }))
    const texts: Array<string> = []
    let bytes = 0
    for (const row of [...rows.values()].toSorted(trigger.compare)) {
      if (channel !== trigger.table.channel && row.channel !== channel) continue
      if (filter !== undefined && !Filters.includes(filter, trigger.texts(row))) continue
      if (texts.length >= limits.rows) {
        return tooLarge("maxStateRows", limits.rows, texts.length + 1)
      }
      bytes += Buffer.byteLength(row.data)
      if (bytes > limits.bytes) return tooLarge("maxStateBytes", limits.bytes, bytes)
      texts.push(row.data)
    }
    return Result.succeed(texts)
  }

  /** The rows of a table as values of its Schema, as a transaction sees them. */
  values(held: HeldTable, draft: Draft): Result.Result<ReadonlyArray<unknown>, InvalidPayload> {
    const values: Array<unknown> = []
    for (const row of draft.all(held)) {
      const value = held.trigger.value(row)
      if (Result.isFailure(value)) return Result.fail(value.failure)
      values.push(value.success)
    }
    return Result.succeed(values)
  }
}
