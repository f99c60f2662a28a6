/**
 * One live channel that a node listens to: it numbers notifications, remembers the last ones, and
 * hands what arrived together to its views in batches.
 *
 * Synchronous throughout. A lost link begins a new epoch, in which no older cursor holds.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { randomBytes } from "node:crypto"
import type * as Channel from "../../../Channel.ts"
import * as Cursor from "../../../Cursor.ts"
import { lost, type Notification } from "../../NotificationSource.ts"
import { Batch, type BatchEvent } from "./batch.ts"
import type { Budget } from "../memory.ts"
import { type Entry, Ring } from "./ring.ts"
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
  /** What arrived and is not delivered yet. */
  #arrived: Array<Notification["payload"]> = []
  #epoch = newEpoch()
  #seq = 0

  constructor(name: string, budget: Budget) {
    this.name = name
    this.#ring = new Ring(budget)
  }

  view(channel: Channel.Any): View {
    return this.#views.take(channel)
  }

  release(view: View): void {
    this.#views.release(view)
  }

  /** Gives back what it remembers. */
  close(): void {
    this.#ring.clear()
  }

  /** Notes what arrived; `true` when nothing waited for `deliver` before. */
  push(payload: Notification["payload"]): boolean {
    return this.#arrived.push(payload) === 1
  }

  /**
   * Hands out what arrived, at `now` milliseconds. Returns how many notifications did not match a
   * view's schema.
   */
  deliver(now: number): number {
    const arrived = this.#arrived
    this.#arrived = []
    let invalid = 0
    let entries: Array<Entry> = []
    for (const payload of arrived) {
      if (payload === lost) {
        invalid += this.#hand(entries)
        entries = []
        this.#beginEpoch()
      } else {
        const entry = { seq: ++this.#seq, at: now, text: payload }
        this.#ring.push(entry)
        entries.push(entry)
      }
    }
    return invalid + this.#hand(entries)
  }

  #hand(entries: ReadonlyArray<Entry>): number {
    if (entries.length === 0) return 0
    let invalid = 0
    for (const view of this.#views) {
      for (const batch of this.#batches(view, entries, view.sinks.size > 0)) {
        if (batch.gap !== undefined) invalid++
        view.hand(batch)
      }
    }
    return invalid
  }

  #beginEpoch(): void {
    this.#epoch = newEpoch()
    this.#seq = 0
    this.#ring.clear()
    const cursor = Cursor.formatLive(this.#epoch, 0)
    for (const view of this.#views) {
      view.hand(new Batch(this.name, view.tick + 1, cursor, cursor, "source"))
    }
  }

  /** What follows `from` for a view, or that it cannot be had any more. */
  #join(view: View, from: string | undefined, now: number): Join {
    const { tick } = view
    const cursor = Cursor.formatLive(this.#epoch, this.#seq)
    const nothing = { cursor, tick, replay: [], more: false, bytes: 0 }
    if (from === undefined) return { state: "fresh", ...nothing }
    const parsed = Cursor.parseLive(from)
    const entries =
      parsed?.epoch === this.#epoch ? this.#ring.after(parsed.seq, this.#seq, now) : undefined
    if (entries === undefined) return { state: "reset", ...nothing }
    const replay = this.#batches(view, entries, true)
    const bytes = entries.reduce((sum, { text }) => sum + text.length, 0)
    return { ...nothing, state: "recovered", cursor: from, replay, bytes }
  }

  /** The entries as a view sees them: events in frames of some size, and a gap for what is invalid. */
  #batches(view: View, entries: ReadonlyArray<Entry>, wire: boolean): ReadonlyArray<Batch> {
    const { name } = this
    const batches: Array<Batch> = []
    const last = entries.length - 1
    let events: Array<BatchEvent> = []
    let size = 0
    let { tick } = view
    let from = Cursor.formatLive(this.#epoch, entries[0] === undefined ? 0 : entries[0].seq - 1)
    for (let index = 0; index <= last; index++) {
      const { at, seq, text } = entries[index]!
      const id = Cursor.formatLive(this.#epoch, seq)
      const event = view.decode(id, at, undefined, parse(text), wire)
      if (event !== undefined) {
        events.push(event)
        size += text.length
      }
      const full = size >= maxBatchText || events.length >= maxBatchEvents
      if (events.length > 0 && (full || event === undefined || index === last)) {
        const cursor = events[events.length - 1]!.id
        batches.push(new Batch(name, ++tick, from, cursor, events))
        from = cursor
        events = []
        size = 0
      }
      if (event === undefined) {
        batches.push(new Batch(name, ++tick, from, id, "invalid"))
        from = id
      }
    }
    return batches
  }
}
