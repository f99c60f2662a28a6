/**
 * A table of orders in memory, the changes that its trigger would write, and the reader of them: what the
 * hub needs for views with a filter.
 *
 * Its cursors count the messages, so that a test knows the rows at each of them.
 */
import { Effect, Queue, Schema, SubscriptionRef } from "effect"
import * as Channel from "../../../src/Channel.ts"
import { Told } from "../../../src/server/internal/hub/gapCounter.ts"
import { DurableChannel } from "../../../src/server/internal/hub/durableChannel.ts"
import type { Batch } from "../../../src/server/internal/hub/batch.ts"
import { includes, make } from "../../../src/server/internal/filter.ts"
import { narrowedTo } from "../../../src/server/internal/hub/viewCursor.ts"
import type { Narrowing } from "../../../src/server/internal/hub/delivery.ts"
import type {
  DurableBatch,
  DurableEvent,
  Item,
  Join,
  OutboxReader,
  RowsRequest
} from "../../../src/server/OutboxReader.ts"
import type { SourceState } from "../../../src/server/NotificationSource.ts"

const Order = Schema.Struct({
  id: Schema.Int,
  status: Schema.NullOr(Schema.String),
  owner: Schema.String,
  /** Differs in every version of every row. */
  note: Schema.String
})
export type OrderRow = typeof Order.Type

export const Orders = Channel.table("orders", Order, {
  key: "id",
  filter: ["status"],
  boundary: ["owner"]
})

const secret = "a secret of the database"

/** The cursor after so many messages. */
export const at = (messages: number): string => `2.database.${messages}`

const messagesAt = (cursor: string): number => Number(cursor.split(".")[2])

/** A view of the orders. */
export const narrowing = (
  where: Narrowing["where"],
  boundary?: Narrowing["boundary"]
): Narrowing => ({ where, boundary })

export const narrowed = ({ boundary, where }: Narrowing, channel: string = Orders.name) =>
  narrowedTo(channel, make(where, boundary)!, where, boundary, secret)

/** How a change is written, where that may differ. */
export interface Written {
  /** The row is too large: its key stands in its place. */
  readonly truncated?: boolean
  /** The row before an UPDATE is there. */
  readonly old?: boolean
  /** Nothing to filter by is there, as of an older definition. */
  readonly unmatched?: boolean
}

export const textsOf = ({ owner, status }: OrderRow) => ({ status, owner })

/** One message of the trigger. */
const messageOf = (
  operation: string,
  before: OrderRow | undefined,
  after: OrderRow | undefined,
  { old, truncated, unmatched }: Written
): Pick<DurableEvent, "text" | "match"> => {
  const row = (after ?? before)!
  const key = { id: row.id }
  const withOld = old === true && operation === "UPDATE" ? { old: before } : {}
  return {
    text: JSON.stringify(
      truncated === true
        ? { operation, data: key, key, truncated }
        : { operation, data: row, ...withOld, key }
    ),
    match:
      unmatched === true
        ? undefined
        : JSON.stringify({
            ...(before && { old: textsOf(before) }),
            ...(after && { new: textsOf(after) })
          })
  }
}

export class OrdersTable {
  rows = new Map<number, OrderRow>()
  /** Every version of every row, by its note. */
  readonly versions = new Map<string, OrderRow>()
  /** The rows at each cursor, by its number. */
  readonly at: Array<ReadonlyMap<number, OrderRow>> = [new Map()]
  readonly log: Array<DurableEvent> = []
  #open: Array<DurableEvent> = []
  tick = 1
  reads = 0

  get cursor(): string {
    return at(this.log.length)
  }

  /** Writes a change of a row: what it was and what it is. A changed key is two messages. */
  write(before: OrderRow | undefined, after: OrderRow | undefined, written: Written = {}): void {
    if (before !== undefined && after !== undefined && before.id !== after.id) {
      this.write(before, undefined, written)
      this.write(undefined, after, written)
      return
    }
    if (before !== undefined) this.rows.delete(before.id)
    if (after !== undefined) {
      this.rows.set(after.id, after)
      this.versions.set(after.note, after)
    }
    const operation = before === undefined ? "INSERT" : after === undefined ? "DELETE" : "UPDATE"
    this.message(messageOf(operation, before, after, written))
  }

  truncate(): void {
    this.rows.clear()
    this.message({ text: ' {"operation":"TRUNCATE"}' })
  }

  message(message: Pick<DurableEvent, "text" | "match">): void {
    const id = String(this.log.length + 1)
    const event = { id, tx: "7", at: 0, ...message }
    this.log.push(event)
    this.#open.push(event)
    this.at.push(new Map(this.rows))
  }

  /** What was written since the last commit, as the reader hands it out. */
  commit(): DurableBatch {
    const end = this.log.length
    const batch = this.batch(end - this.#open.length, end, ++this.tick)
    this.#open = []
    return batch
  }

  batch(from: number, to: number, tick = 0): DurableBatch {
    return {
      _tag: "Batch",
      channel: Orders.name,
      from: at(from),
      cursor: at(to),
      tick,
      isMidway: false,
      events: this.log.slice(from, to),
      cursorAt: (index) => at(from + index + 1)
    }
  }

  /** The rows of a filter at a cursor, or now, by their keys. */
  select(narrowing: Narrowing, cursor = this.cursor): Map<string, OrderRow> {
    const filter = make(narrowing.where, narrowing.boundary)
    const rows = this.at[messagesAt(cursor)]!
    return new Map(
      [...rows.values()]
        .filter((row) => filter === undefined || includes(filter, textsOf(row)))
        .map((row) => [JSON.stringify({ id: row.id }), row])
    )
  }

  join(from: string | undefined, pages = 3): Join {
    const { cursor, tick } = this
    const base = { cursor, tick, replay: [], more: false, bytes: 0 }
    if (from === undefined) return { ...base, state: "fresh", reason: undefined }
    if (!/^2\.database\.\d+$/.test(from)) return { ...base, state: "reset", reason: "malformed" }
    const replay: Array<DurableBatch> = []
    for (let next = messagesAt(from); next < this.log.length; next += pages) {
      replay.push(this.batch(next, Math.min(this.log.length, next + pages)))
    }
    return { ...base, state: "recovered", reason: undefined, cursor: from, replay }
  }

  reader(): OutboxReader["Service"] {
    const unused = Effect.die(new Error("it is not used"))
    return {
      routed: () => Effect.void,
      follow: () => Queue.unbounded<Item>(),
      join: (_, from) => Effect.sync(() => this.join(from)),
      batches: () => unused as never,
      publish: () => unused,
      position: Effect.sync(() => this.cursor),
      state: Effect.runSync(SubscriptionRef.make<SourceState>("up")),
      secret: Effect.succeed(secret),
      rows: (request) => Effect.sync(() => this.read(request))
    }
  }

  read({ filter }: Pick<RowsRequest, "filter">) {
    this.reads++
    const { cursor } = this
    const rows = [...this.at.at(-1)!.values()].filter(
      (row) => filter === undefined || includes(filter, textsOf(row))
    )
    return { cursor, rows: rows.map((row) => JSON.stringify(row)) }
  }

  channel(maxFilters = 10_000): DurableChannel {
    return new DurableChannel(Orders.name, this.reader(), new Told(), maxFilters)
  }
}

/** Collects the batches of a view. */
export const collect = () => {
  const batches: Array<Batch> = []
  return { batches, offer: (batch: Batch) => void batches.push(batch) }
}

export interface Frame {
  readonly type: "events" | "gap" | "cursor"
  readonly view?: string
  readonly cursor: string
  readonly reason?: string
  readonly events?: ReadonlyArray<{
    readonly id: string
    readonly data: {
      readonly operation: string
      readonly data?: OrderRow
      readonly old?: OrderRow
      readonly key?: unknown
    }
  }>
}

export const frameOf = ({ text }: { readonly text: string }): Frame => JSON.parse(text) as Frame

/** What a client does with the events of a frame. */
export const apply = (rows: Map<string, OrderRow>, { events = [] }: Frame): void => {
  for (const { data: change } of events) {
    const key = JSON.stringify(change.key)
    if (change.operation === "DELETE") rows.delete(key)
    else rows.set(key, change.data!)
  }
}
