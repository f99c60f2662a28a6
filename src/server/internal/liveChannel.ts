/**
 * One live channel that a node listens to: it numbers notifications, remembers the last ones, and
 * hands them to its views in batches.
 *
 * Synchronous throughout. A lost link begins a new epoch, in which no older cursor holds.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { randomBytes } from "node:crypto"
import type * as Channel from "../../Channel.ts"
import * as Cursor from "../../Cursor.ts"
import { type Item, lost } from "../NotificationSource.ts"
import { Batch, type BatchEvent } from "./batch.ts"
import { type Budget, type Entry, Ring } from "./ring.ts"
import { type Join, parse, type View, Views } from "./view.ts"

/** A frame of one channel stays below this many UTF-16 units of payload, so that no frame is huge. */
const maxBatchText = 64 * 1024
/** And below this many events. */
const maxBatchEvents = 256

/** 8 characters: an epoch need only differ from the few that a client may still hold. */
const newEpoch = (): string => randomBytes(6).toString("base64url")

export class LiveChannel {
  readonly name: string
  readonly #ring: Ring
  readonly #views = new Views((view, from) =>
    Effect.map(Clock.currentTimeMillis, (now) => this.#join(view, from, now))
  )
  /** The tick of the newest batch of each view; views of one channel may split batches differently. */
  readonly #ticks = new WeakMap<View, number>()
  #epoch = newEpoch()
  #seq = 0

  constructor(name: string, budget: Budget) {
    this.name = name
    this.#ring = new Ring(budget)
  }

  view(channel: Channel.Any): View {
    return this.#views.take(channel)
  }

  /**
   * Takes what arrived together, at `now` milliseconds. Returns how many notifications did not match
   * a view's schema.
   */
  receive(items: ReadonlyArray<Item>, now: number): number {
    let invalid = 0
    let entries: Array<Entry> = []
    const flush = () => {
      if (entries.length === 0) return
      const parsed = entries.map((entry) => parse(entry.text))
      for (const view of this.#views) {
        for (const batch of this.#batch(view, entries, parsed, view.sinks.size > 0)) {
          if (batch.gap !== undefined) invalid++
          view.hand(batch)
        }
      }
      entries = []
    }
    for (const item of items) {
      if (item === lost) {
        flush()
        this.#beginEpoch()
      } else {
        const entry = { seq: ++this.#seq, at: now, text: item }
        this.#ring.push(entry)
        entries.push(entry)
      }
    }
    flush()
    return invalid
  }

  #beginEpoch(): void {
    this.#epoch = newEpoch()
    this.#seq = 0
    this.#ring.clear()
    const cursor = Cursor.formatLive(this.#epoch, 0)
    for (const view of this.#views) {
      view.hand(new Batch(this.name, this.#nextTick(view), cursor, cursor, "source"))
    }
  }

  /** What follows `from` for a view, or that it cannot be had any more. */
  #join(view: View, from: string | undefined, now: number): Join {
    const tick = this.#ticks.get(view) ?? 0
    const cursor = Cursor.formatLive(this.#epoch, this.#seq)
    if (from === undefined) return { state: "fresh", cursor, tick, replay: [] }
    const parsed = Cursor.parseLive(from)
    const entries =
      parsed?.epoch === this.#epoch ? this.#ring.after(parsed.seq, this.#seq, now) : undefined
    if (entries === undefined) return { state: "reset", cursor, tick, replay: [] }
    const texts = entries.map((entry) => parse(entry.text))
    const replay = [...this.#batch(view, entries, texts, true)]
    // A replay is one subscriber's: it does not count for the others.
    this.#ticks.set(view, tick)
    return { state: "recovered", cursor: from, tick, replay }
  }

  #nextTick(view: View): number {
    const tick = (this.#ticks.get(view) ?? 0) + 1
    this.#ticks.set(view, tick)
    return tick
  }

  *#batch(
    view: View,
    entries: ReadonlyArray<Entry>,
    parsed: ReadonlyArray<unknown>,
    wire: boolean
  ): Generator<Batch> {
    const { name } = this
    let events: Array<BatchEvent> = []
    let size = 0
    let from = Cursor.formatLive(this.#epoch, entries[0] === undefined ? 0 : entries[0].seq - 1)
    for (let index = 0; index < entries.length; index++) {
      const { at, seq, text } = entries[index]!
      const id = Cursor.formatLive(this.#epoch, seq)
      const event = view.decode({ id, at, tx: undefined, json: parsed[index] }, wire)
      if (event !== undefined) {
        events.push(event)
        size += text.length
      }
      const full = size >= maxBatchText || events.length >= maxBatchEvents
      if (events.length > 0 && (full || event === undefined || index === entries.length - 1)) {
        const cursor = events[events.length - 1]!.id
        yield new Batch(name, this.#nextTick(view), from, cursor, events)
        from = cursor
        events = []
        size = 0
      }
      if (event === undefined) {
        yield new Batch(name, this.#nextTick(view), from, id, "invalid")
        from = id
      }
    }
  }
}
