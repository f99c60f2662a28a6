/**
 * The outbox as a table in memory: what PostgreSQL keeps for durable channels, for one process.
 *
 * In: transactions, whole or not at all. Out: the answers that the statements of `outbox.ts` give, in
 * positions of the same kind. Transactions commit one after the other, so no snapshot contains one in
 * progress. The rest is as in PostgreSQL: numbers that a crash gives out again, a witness that is looked
 * up, a horizon whose last message is kept. The table notifies its readers at once; see `memoryReader.ts`.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import { randomBytes } from "node:crypto"
import * as Cursor from "../../../internal/cursorText.ts"
import { errorText } from "../../../internal/errorText.ts"
import { channelNameFault } from "../../../Protocol.ts"
import { PayloadTooLarge } from "../../../RealtimeError.ts"
import { SourceError } from "../../NotificationSource.ts"
import { type Filter, judge, parseMatch } from "../filter.ts"
import { maxPayloadBytes } from "../sql/schema.ts"
import type { HistoryPage, HistoryRequest } from "./history.ts"
import {
  Draft,
  MemoryRows,
  type RowConflict,
  type MemoryWatch,
  type Written
} from "./memoryRows.ts"
import type { Message, Page, PageLimits, Take } from "./outbox.ts"
import { type OutboxPublishError, PublishRefused } from "./outboxPublish.ts"
import { endOf, type Leg, midway, type Place, placeOf } from "./position.ts"
import type { DurableEvent } from "./tail.ts"

/** Why a transaction was not committed. */
export type TransactionError = OutboxPublishError | RowConflict

/** The transaction in which an Effect runs, with its table. */
const Current = Context.Reference<{ readonly table: object; readonly draft: Draft } | undefined>(
  "effect-realtime/server/MemoryTable/Current",
  { defaultValue: () => undefined }
)

/** A node that reads the table. */
interface ReadingNode {
  /** Runs after each commit. */
  readonly look: (now: number) => void
  readonly down: Effect.Effect<void>
  readonly up: Effect.Effect<void>
}

interface StoredRow extends Omit<Message, "id" | "tx"> {
  readonly id: bigint
  readonly tx: bigint
  readonly key: string | undefined
  readonly sent: string | undefined
}

/** Compares what the publishers were given, or the texts where one of them does not say it. */
const isSame = (kept: StoredRow, { sent, text }: Written): boolean =>
  kept.sent === undefined || sent === undefined ? kept.text === text : kept.sent === sent

/** Whether neither row of a change is inside. What is no change of a row is not outside. */
const isOutside = (filter: Filter, match: string | undefined): boolean =>
  match !== undefined && judge(filter, parseMatch(match)) === "outside"

/** `heard`: all works. `unheard`: nodes cannot read. `gone`: publishers cannot write either. */
type TableState = "heard" | "unheard" | "gone"

/** PostgreSQL writes a sequence ahead: a crash skips this many ids. */
const drawnAhead = 32n

const maxKeyBytes = 500

const failed = (channel: string, what: string) =>
  new SourceError({ operation: "publish", channel, cause: new Error(what) })

const stopped = "the database in memory is stopped"

const nothing: Cursor.PgSnapshot = { xmax: 1n, running: [] }

const micros = (at: number): bigint => BigInt(Math.round(at * 1000))

export class MemoryTable {
  /** The identity in cursors: a cursor of another table is reset. */
  readonly identity = randomBytes(6).toString("base64url")
  /** What no client knows, the same for all nodes. */
  readonly secret = randomBytes(32).toString("base64url")
  readonly readers = new Set<ReadingNode>()
  readonly rows: MemoryRows
  state: TableState = "heard"
  /** One run of the server; a crash begins the next one. */
  #era = 1
  /** In the order of their ids, which is also the order of their transactions. */
  #messages: Array<StoredRow> = []
  #drawn = 0n
  /** Sees all pruned messages; the last message that it sees is kept. */
  #horizon = nothing

  constructor(watched?: ReadonlyArray<MemoryWatch>) {
    this.rows = new MemoryRows(watched)
  }

  get era(): string {
    return String(this.#era)
  }

  /** Commits messages, or adds them to the transaction of the caller. Writes all of them or none. */
  commit(messages: ReadonlyArray<Written>): Effect.Effect<void, OutboxPublishError> {
    return Effect.flatMap(this.#draft, (draft) => {
      if (draft === undefined) {
        return Effect.flatMap(Clock.currentTimeMillis, (now) => this.#write(messages, now))
      }
      for (const message of messages) {
        const fault = this.#fault(message)
        if (fault !== undefined) return Effect.fail(fault)
      }
      draft.written.push(...messages)
      return Effect.void
    })
  }

  /**
   * Runs an Effect as one transaction: what it writes is committed when it succeeds, with the clock of
   * `timed`, and undone when it does not. Within a transaction it is a savepoint.
   */
  transaction<A, E, R>(
    effect: Effect.Effect<A, E, R>,
    timed: (commit: Effect.Effect<void, TransactionError>) => Effect.Effect<void, TransactionError>
  ): Effect.Effect<A, E | TransactionError, R> {
    return Effect.flatMap(this.#draft, (outer) => {
      if (outer !== undefined) {
        const undo = outer.save()
        return Effect.onError(effect, () => Effect.sync(undo))
      }
      const draft = new Draft()
      const era = this.#era
      return effect.pipe(
        Effect.provideService(Current, { table: this, draft }),
        Effect.onExit(() => Effect.sync(() => void (draft.isOpen = false))),
        Effect.tap(() => timed(this.#commit(draft, era)))
      )
    })
  }

  /** Runs one change in the transaction of the caller, or in one of its own. */
  change<A, E>(
    change: (draft: Draft) => Effect.Effect<A, E>,
    timed: (commit: Effect.Effect<void, TransactionError>) => Effect.Effect<void, TransactionError>
  ): Effect.Effect<A, E | TransactionError> {
    return this.transaction(
      Effect.flatMap(this.#draft, (draft) => change(draft!)),
      timed
    )
  }

  /** What the caller sees: its open transaction, or one that wrote nothing. */
  get seen(): Effect.Effect<Draft> {
    return Effect.map(this.#draft, (draft) => draft ?? new Draft())
  }

  /** The open transaction of the caller on this table. */
  get #draft(): Effect.Effect<Draft | undefined> {
    return Effect.map(Current, (current) =>
      current?.table === this && current.draft.isOpen ? current.draft : undefined
    )
  }

  #commit(draft: Draft, era: number): Effect.Effect<void, TransactionError> {
    return Effect.flatMap(Clock.currentTimeMillis, (now): Effect.Effect<void, TransactionError> => {
      const channel = draft.channel
      if (channel === undefined) return Effect.void
      if (this.state === "gone") return Effect.fail(failed(channel, stopped))
      if (this.#era !== era)
        return Effect.fail(
          failed(channel, "the database in memory crashed during this transaction")
        )
      const conflict = this.rows.conflict(draft)
      return conflict === undefined ? this.#write(draft.written, now, draft) : Effect.fail(conflict)
    })
  }

  /** Fails as the database would, and then writes nothing. */
  #write(
    messages: ReadonlyArray<Written>,
    now: number,
    draft?: Draft
  ): Effect.Effect<void, OutboxPublishError> {
    const tx = this.#last + 1n
    const rows: Array<StoredRow> = []
    for (const message of messages) {
      const { channel, key, match, sent, text, trace } = message
      const fault = this.#fault(message)
      if (fault !== undefined) return Effect.fail(fault)
      const kept = key === undefined ? undefined : this.#keyed(channel, key, rows)
      if (kept === undefined) {
        rows.push({ id: ++this.#drawn, tx, channel, text, match, trace, at: now, key, sent })
      } else if (!isSame(kept, message)) {
        return Effect.fail(new PublishRefused({ channel, reason: "key" }))
      }
    }
    this.#messages.push(...rows)
    if (draft !== undefined) this.rows.commit(draft, tx)
    if (rows.length > 0 && this.state === "heard") {
      for (const reader of this.readers) reader.look(now)
    }
    return Effect.void
  }

  /** Whether the message with this key is the same one; `undefined` if there is none. */
  published(
    message: Written & { readonly key: string }
  ): Effect.Effect<boolean | undefined, OutboxPublishError> {
    return Effect.suspend(() => {
      const fault = this.#fault(message)
      if (fault !== undefined) return Effect.fail(fault)
      const kept = this.#keyed(message.channel, message.key, [])
      return Effect.succeed(kept === undefined ? undefined : isSame(kept, message))
    })
  }

  #fault({ channel, key, text }: Written): OutboxPublishError | undefined {
    if (this.state === "gone") return failed(channel, stopped)
    const reason = channelNameFault(channel)
    if (reason !== undefined) {
      return failed(channel, `the channel name "${channel.slice(0, 80)}" ${reason}`)
    }
    const bytes = Buffer.byteLength(text)
    if (bytes > maxPayloadBytes) {
      return new PayloadTooLarge({ channel, bytes, limit: maxPayloadBytes })
    }
    const refused = (detail: string) => new PublishRefused({ channel, reason: "value", detail })
    try {
      JSON.parse(text)
    } catch (error) {
      return refused(`the payload is no JSON, ${errorText(error)}`)
    }
    if (key === undefined) return undefined
    const keyBytes = Buffer.byteLength(key)
    if (keyBytes < 1 || keyBytes > maxKeyBytes) return refused(`the key has ${keyBytes} bytes`)
    if (key.includes("\0")) return refused("the key holds a NUL")
    return key.isWellFormed() ? undefined : refused("the key is not well-formed")
  }

  #keyed(channel: string, key: string, fresh: ReadonlyArray<StoredRow>): StoredRow | undefined {
    const same = (row: StoredRow) => row.key === key && row.channel === channel
    return fresh.find(same) ?? this.#messages.find(same)
  }

  /** The highest transaction with a message, 0 without any. */
  get #last(): bigint {
    return this.#messages.at(-1)?.tx ?? 0n
  }

  /** The current position. */
  take(): Take {
    const last = this.#messages.at(-1)
    const snapshot = { xmax: this.#last + 1n, running: [] }
    return {
      snapshot,
      normal: snapshot,
      last: {
        tx: this.#last,
        id: last?.id ?? 0n,
        at: last === undefined ? 0n : micros(last.at)
      },
      next: this.#last + 1n,
      drawn: this.#drawn,
      era: this.era,
      written: ""
    }
  }

  /** The position before everything that is kept. */
  oldest(): Place {
    const last = this.#messages.findLast(({ tx }) => tx < this.#horizon.xmax)
    return placeOf(this.#horizon, {
      tx: last?.tx ?? 0n,
      id: last?.id ?? 0n,
      at: last === undefined ? 0n : micros(last.at)
    })
  }

  /** Whether the witness of a position is there, unchanged. */
  stands({ at, id, tx }: Cursor.Witness): boolean {
    if (tx === 0n) return true
    const row = this.#messages[this.#from((row) => row.id >= id)]
    return row?.id === id && row.tx === tx && micros(row.at) === at
  }

  /** Whether a message was pruned that a position does not see. */
  hides(at: Cursor.PgSnapshot): boolean {
    return !Cursor.contains(at, this.#horizon)
  }

  /** The index of the first row for which `higher` is true. */
  #from(higher: (row: StoredRow) => boolean): number {
    let low = 0
    let high = this.#messages.length
    while (low < high) {
      const middle = (low + high) >> 1
      if (higher(this.#messages[middle]!)) high = middle
      else low = middle + 1
    }
    return low
  }

  /** One page of a leg, for the given channels; `retention` when messages of the leg were pruned. */
  page(
    leg: Leg,
    { bytes, messages: most }: PageLimits,
    channels: ReadonlySet<string>,
    filter?: Filter
  ): Page | "retention" {
    const { at, id, to } = leg
    if (this.hides(at.normal)) return "retention"
    const lowest = at.normal.running[0] ?? at.normal.xmax
    const messages: Array<Message> = []
    let size = 0
    let more = false
    for (
      let index = this.#from((row) => row.tx >= lowest && row.id > id);
      index < this.#messages.length;
      index++
    ) {
      const row = this.#messages[index]!
      if (!channels.has(row.channel)) continue
      if (Cursor.visible(at.normal, row.tx) || !Cursor.visible(to.normal, row.tx)) continue
      if (filter !== undefined && isOutside(filter, row.match)) continue
      more = messages.length >= most || size >= bytes
      if (more) break
      const { at: time, channel, id, match, text, tx } = row
      messages.push({ id: String(id), tx: String(tx), channel, text, match, at: Math.floor(time) })
      size += Buffer.byteLength(text)
    }
    const last = messages.at(-1)
    const position = more && last !== undefined ? midway(leg, BigInt(last.id)) : endOf(leg)
    return { messages, position }
  }

  /** The newest messages of a channel below an id, the oldest first, and whether there are more. */
  before(channel: string, { before, bytes, limit }: HistoryRequest): HistoryPage {
    const id = before === undefined ? this.#drawn + 1n : BigInt(before)
    const events: Array<DurableEvent> = []
    let size = 0
    for (let index = this.#from((row) => row.id >= id) - 1; index >= 0; index--) {
      const row = this.#messages[index]!
      if (row.channel !== channel || Cursor.visible(this.#horizon, row.tx)) continue
      if (events.length >= limit || size >= bytes)
        return { events: events.toReversed(), more: true }
      const { at, match, text } = row
      events.push({ id: String(row.id), tx: String(row.tx), at: Math.floor(at), text, match })
      size += Buffer.byteLength(text)
    }
    return { events: events.toReversed(), more: false }
  }

  /** Prunes messages committed before a time, in milliseconds since 1970. */
  forget(before: number): void {
    const index = this.#messages.findIndex(({ at }) => at >= before)
    const gone = index < 0 ? this.#messages.length : index
    const last = this.#messages[gone - 1]
    if (last === undefined) return
    this.#horizon = { xmax: last.tx + 1n, running: [] }
    this.rows.settle(this.#horizon.xmax)
    // Keeps the witness of the oldest valid cursor, however long no message is written.
    this.#messages = this.#messages.slice(gone - 1)
  }

  /** The nodes lose their sessions; in state `gone` publishers cannot write either. */
  lose(state: "unheard" | "gone"): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.state = state
      return Effect.forEach(this.readers, ({ down }) => down, { discard: true })
    })
  }

  /**
   * Crashes the server. The last `losing` transactions are lost, as commits that the server confirmed and
   * had not flushed. Messages up to the horizon are on disk and stay.
   */
  crash(losing: number): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.#era++
      this.#drawn += drawnAhead
      for (let left = losing; left > 0; left--) {
        const tx = this.#last
        if (tx < this.#horizon.xmax) break
        this.#messages.splice(this.#from((row) => row.tx >= tx))
        this.rows.takeBack(tx)
      }
      return this.lose("gone")
    })
  }

  /** The server answers again. */
  get restore(): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.state = "heard"
      return Effect.forEach(this.readers, ({ up }) => up, { discard: true })
    })
  }
}
