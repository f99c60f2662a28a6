/**
 * One live channel that a node listens to: it numbers notifications, remembers the last ones, and
 * hands what arrived together to its views in batches.
 *
 * Synchronous throughout. A lost link begins a new epoch, in which no older cursor holds.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { randomBytes } from "node:crypto"
import * as Cursor from "../../../internal/cursor.ts"
import { type Heard, lost } from "../../NotificationSource.ts"
import { Batch, type BatchEvent } from "./batch.ts"
import type { Budget } from "../ring.ts"
import { type LiveEntry, LiveRing } from "./liveRing.ts"
import { Missing } from "./invalidMessage.ts"
import { maxBatchEvents, maxBatchText } from "../outbox/tail.ts"
import { turns } from "../eventLoopTurns.ts"
import type { Told } from "./gapCounter.ts"
import { type View, type ViewJoin, Views } from "./view.ts"

/** 8 characters: an epoch need only differ from the few that a client may still hold. */
const epochBytes = 6

/** Drawn for many at a time: one by one it is most of what an open channel costs. */
let drawn = Buffer.alloc(0)

const newEpoch = (): string => {
  if (drawn.length === 0) drawn = randomBytes(epochBytes * 64)
  const epoch = drawn.toString("base64url", 0, epochBytes)
  drawn = drawn.subarray(epochBytes)
  return epoch
}

/** In UTF-16 units of payload. */
const bytesOf = (entries: ReadonlyArray<LiveEntry>): number =>
  entries.reduce((sum, { text }) => sum + text.length, 0)

export class LiveChannel extends Views {
  readonly #ring: LiveRing
  /** What arrived and is not delivered yet. */
  #arrived: Array<Heard> | undefined
  #closed = false
  #epoch = newEpoch()
  #seq = 0
  /** Not everybody has everything up to `#cursor` yet. */
  #handing = false
  /** The position of the newest notification. */
  #cursor = Cursor.formatLive(this.#epoch, 0)

  /** The last replay: a crowd that comes back after a loss stood at the same place. */
  #joined:
    | {
        readonly view: View
        readonly from: string
        /** Where the channel stood. */
        readonly cursor: string
        readonly join: WeakRef<ViewJoin>
      }
    | undefined

  constructor(name: string, budget: Budget, told: Told) {
    super(name, told)
    this.#ring = new LiveRing(budget)
  }

  protected override get resumes(): boolean {
    return false
  }

  /** Gives back what it remembers; what waits, or comes later, is for nobody. */
  close(): void {
    this.#closed = true
    this.#arrived = undefined
    this.#ring.clear()
  }

  /** Notes what arrived; `true` when nothing waited for `deliver` before. */
  push(payload: Heard): boolean {
    if (this.#closed) return false
    if (this.#arrived === undefined) this.#arrived = [payload]
    else this.#arrived.push(payload)
    return this.#arrived.length === 1
  }

  /** Hands out what arrived, at `now` milliseconds. Returns the notifications that are gaps. */
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

  /**
   * What follows `from` for a view, or that it cannot be had any more. What is replayed is decoded in a
   * step of the loop in which there is room for it.
   */
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
    // A Stream's consumer runs inside the hand-out, and the rest of it would come to a joiner twice.
    return Effect.suspend(() => (this.#handing ? Effect.andThen(Effect.yieldNow, inTurn) : inTurn))
  }

  #after(from: string, now: number): ReadonlyArray<LiveEntry> | undefined {
    const parsed = Cursor.parseLive(from)
    return parsed?.epoch === this.#epoch ? this.#ring.after(parsed.seq, this.#seq, now) : undefined
  }

  /** What was made for the last one who came from there, when nothing came since. */
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
   * The entries after `from` as a view sees them: events in batches of some size, and in their places the
   * gaps, which `missing` notes; handed to `taker` one by one.
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
