/**
 * One live channel that a node listens to. It numbers notifications, remembers the last ones, and hands
 * those that arrived together to its views in batches.
 *
 * Everything is synchronous. A lost link begins a new epoch, in which no older cursor is valid.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { randomBytes } from "node:crypto"
import * as Cursor from "../../../internal/cursorText.ts"
import { type Heard, lost } from "../../NotificationSource.ts"
import { encodeState } from "../../../internal/frameText.ts"
import { Batch, type BatchEvent } from "./batch.ts"
import type { ViewState } from "./delivery.ts"
import type { Budget } from "../ring.ts"
import type { Distribution } from "../tally.ts"
import { type LiveEntry, LiveRing } from "./liveRing.ts"
import { Missing } from "./invalidMessage.ts"
import { frameOf } from "./stateFrames.ts"
import { maxBatchEvents, maxBatchText } from "../outbox/tail.ts"
import { turns } from "../eventLoopTurns.ts"
import type { Told } from "./gapCounter.ts"
import { type View, type ViewJoin, Views } from "./view.ts"

/** 8 characters. An epoch must differ only from the few that a client may still hold. */
const epochBytes = 6

/** Random bytes for 64 epochs. One by one they are most of the cost of opening a channel. */
let drawn = Buffer.alloc(0)

const newEpoch = (): string => {
  if (drawn.length === 0) drawn = randomBytes(epochBytes * 64)
  const epoch = drawn.toString("base64url", 0, epochBytes)
  drawn = drawn.subarray(epochBytes)
  return epoch
}

/** Bytes of payload, as UTF-16 units. */
const bytesOf = (entries: ReadonlyArray<LiveEntry>): number =>
  entries.reduce((sum, { text }) => sum + text.length, 0)

export class LiveChannel extends Views {
  readonly #ring: LiveRing
  /** Notifications that wait for `deliver`. */
  #arrived: Array<Heard> | undefined
  #closed = false
  #epoch = newEpoch()
  #seq = 0
  /** Whether a delivery is under way, so that some views do not have everything up to `#cursor`. */
  #handing = false
  /** The position of the newest notification. */
  #cursor = Cursor.formatLive(this.#epoch, 0)

  /** The last replay. Clients that reconnect together mostly resume from the same cursor. */
  #joined:
    | {
        readonly view: View
        readonly from: string
        /** The channel's position then. */
        readonly cursor: string
        readonly join: WeakRef<ViewJoin>
      }
    | undefined

  /** The last state: subscribers that arrive together share it. */
  #lastMade:
    | {
        readonly view: unknown
        readonly entry: LiveEntry | undefined
        readonly state: WeakRef<ViewState>
      }
    | undefined

  constructor(name: string, budget: Budget, told: Told, batchEvents?: Distribution) {
    super(name, told, batchEvents)
    this.#ring = new LiveRing(budget)
  }

  protected override get resumes(): boolean {
    return false
  }

  /** Clears the ring, and drops the notifications that wait or arrive later. */
  close(): void {
    this.#closed = true
    this.#arrived = undefined
    this.#ring.clear()
  }

  /** Adds a notification. Returns `true` when it is the first one that waits for `deliver`. */
  push(payload: Heard): boolean {
    if (this.#closed) return false
    if (this.#arrived === undefined) this.#arrived = [payload]
    else this.#arrived.push(payload)
    return this.#arrived.length === 1
  }

  /** Hands waiting notifications to the views, at `now` milliseconds. Returns the messages that are gaps. */
  deliver(now: number): ReadonlyArray<Missing> {
    let rest = this.#arrived ?? []
    this.#arrived = undefined
    this.#handing = true
    const missing: Array<Missing> = []
    for (let at = rest.indexOf(lost); at >= 0; at = rest.indexOf(lost)) {
      this.#hand(rest.slice(0, at) as Array<string>, now, missing)
      this.#beginEpoch()
      rest = rest.slice(at + 1)
    }
    this.#hand(rest as Array<string>, now, missing)
    this.#handing = false
    return missing
  }

  #hand(texts: ReadonlyArray<string>, now: number, missing: Array<Missing>): void {
    if (texts.length === 0) return
    const from = this.#cursor
    const entries = texts.map((text) => {
      const entry = { seq: ++this.#seq, at: now, text }
      this.#ring.push(entry)
      return entry
    })
    this.#cursor = Cursor.formatLive(this.#epoch, this.#seq)
    for (let view = this.first; view !== undefined; view = view.next) {
      this.#batches(view, from, entries, view.subscribed, missing, view)
    }
  }

  #beginEpoch(): void {
    this.#epoch = newEpoch()
    this.#seq = 0
    this.#ring.clear()
    const cursor = (this.#cursor = Cursor.formatLive(this.#epoch, 0))
    for (let view = this.first; view !== undefined; view = view.next) {
      view.hand(new Batch(view, view.tick + 1, cursor, cursor, "source"))
    }
  }

  /** The replay from `from` for a view, or `reset`. Decoded when the event loop has room for it. */
  protected override join(view: View, from: string | undefined): Effect.Effect<ViewJoin> {
    const at = Effect.flatMap(Clock.currentTimeMillis, (now) => {
      const missing: Array<Missing> = []
      const join = this.#joinAt(view, from, now, missing)
      return missing.length === 0
        ? Effect.succeed(join)
        : Effect.as(this.told.tell(this.name, missing), join)
    })
    const inTurn = Effect.flatMap(Clock.currentTimeMillis, (now) => {
      if (from === undefined || this.#madeFor(view, from) !== undefined) return at
      const entries = this.#after(from, now) ?? []
      return entries.length === 0
        ? at
        : Effect.andThen(turns.take({ events: entries.length, bytes: bytesOf(entries) }), at)
    })
    // A Stream's consumer may join during a delivery. The rest of that delivery would reach it twice.
    return Effect.suspend(() => (this.#handing ? Effect.andThen(Effect.yieldNow, inTurn) : inTurn))
  }

  /** What the ring holds before an event of it, or all of it, the oldest first. */
  past(
    before: string | undefined,
    now: number
  ): ReadonlyArray<{ readonly id: string; readonly at: number; readonly text: string }> {
    const at = before === undefined ? undefined : Cursor.parseLive(before)
    // Nothing is held of another epoch.
    if (at !== undefined && at.epoch !== this.#epoch) return []
    this.#ring.expire(now)
    const { entries } = this.#ring
    const older = at === undefined ? entries : entries.filter(({ seq }) => seq < at.seq)
    return older.map(({ at, seq, text }) => ({ id: Cursor.formatLive(this.#epoch, seq), at, text }))
  }

  /** The last event that is remembered, as a state of one row, or of none. */
  last<E>(view: View<E>, now: number): ViewState {
    const entries = this.#ring.remembered(now)
    const cursor = this.#cursor
    const made = this.#lastMade
    const known = made?.view === view && made.entry === entries.at(-1) && made.state.deref()
    if (known && known.cursor === cursor) return known
    const rows: Array<string> = []
    for (let index = entries.length - 1; index >= 0 && rows.length === 0; index--) {
      const { at, seq, text } = entries[index]!
      const id = Cursor.formatLive(this.#epoch, seq)
      const event = view.decode(id, at, undefined, text, true)
      if (!(event instanceof Missing)) rows.push(event.json!)
    }
    const text = encodeState(this.name, view.label, cursor, rows, [], false)
    const state = { cursor, frames: [frameOf(text, rows.length)] }
    this.#lastMade = { view, entry: entries.at(-1), state: new WeakRef(state) }
    return state
  }

  #after(from: string, now: number): ReadonlyArray<LiveEntry> | undefined {
    const parsed = Cursor.parseLive(from)
    return parsed?.epoch === this.#epoch ? this.#ring.after(parsed.seq, this.#seq, now) : undefined
  }

  /** The last replay, if it was made for this view and cursor and no notification arrived since. */
  #madeFor(view: View, from: string): ViewJoin | undefined {
    const last = this.#joined
    return last?.view === view && last.from === from && last.cursor === this.#cursor
      ? last.join.deref()
      : undefined
  }

  #joinAt(view: View, from: string | undefined, now: number, missing: Array<Missing>): ViewJoin {
    const { tick } = view
    const nothing = { cursor: this.#cursor, tick, replay: [], more: false, bytes: 0 }
    if (from === undefined) return { state: "fresh", ...nothing }
    const entries = this.#after(from, now)
    if (entries === undefined) return { state: "reset", ...nothing }
    const made = this.#madeFor(view, from)
    if (made !== undefined) return made
    const replay: Array<Batch> = []
    this.#batches(view, from, entries, true, missing, { hand: (batch) => replay.push(batch) })
    const bytes = bytesOf(entries)
    const join: ViewJoin = { ...nothing, state: "recovered", cursor: from, replay, bytes }
    if (entries.length > 0) {
      this.#joined = { view, from, cursor: this.#cursor, join: new WeakRef(join) }
    }
    return join
  }

  /**
   * Decodes the entries after `from` for a view. Hands `taker` the events in batches of bounded size
   * and a gap in place of each message that does not decode, which it adds to `missing`.
   */
  #batches(
    view: View,
    from: string,
    entries: ReadonlyArray<LiveEntry>,
    wire: boolean,
    missing: Array<Missing>,
    taker: { readonly hand: (batch: Batch) => unknown }
  ): void {
    const last = entries.length - 1
    let events: Array<BatchEvent> | undefined
    let size = 0
    let { tick } = view
    for (let index = 0; index <= last; index++) {
      const { at, seq, text } = entries[index]!
      const id = Cursor.formatLive(this.#epoch, seq)
      const read = view.decode(id, at, undefined, text, wire)
      const gap = read instanceof Missing ? read : undefined
      if (!(read instanceof Missing)) {
        if (events === undefined) events = [read]
        else events.push(read)
        size += text.length
      }
      const full = size >= maxBatchText || events?.length === maxBatchEvents
      if (events !== undefined && (full || gap !== undefined || index === last)) {
        const cursor = events[events.length - 1]!.id
        taker.hand(new Batch(view, ++tick, from, cursor, events))
        from = cursor
        events = undefined
        size = 0
      }
      if (gap !== undefined) {
        missing.push(gap)
        taker.hand(new Batch(view, ++tick, from, id, gap))
        from = id
      }
    }
  }
}
