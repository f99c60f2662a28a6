/**
 * One channel that a node listens to: it numbers notifications, remembers the last ones, decodes them
 * once per codec and hands the batches to everybody subscribed.
 *
 * Synchronous throughout: what is attached in one step is in place before the next notification.
 * A `View` is the channel as one definition sees it; sockets and Streams of the same definition share
 * it, so a payload is validated once and encoded once however many subscribe.
 */
import * as Effect from "effect/Effect"
import * as PubSub from "effect/PubSub"
import * as Result from "effect/Result"
import { randomBytes } from "node:crypto"
import * as Channel from "../../Channel.ts"
import * as Cursor from "../../Cursor.ts"
import type { GapReason } from "../../RealtimeEvent.ts"
import { type Item, lost } from "../NotificationSource.ts"
import { Batch, type BatchEvent } from "./batch.ts"
import { type Budget, type Entry, Ring } from "./ring.ts"

/** A socket's end of a subscription. */
export interface Sink {
  readonly offer: (batch: Batch) => void
}

/** Where a subscriber starts. */
export interface Position {
  readonly state: "fresh" | "recovered" | "reset"
  /** Events follow from here: the replay first, then what is live. */
  readonly cursor: string
  readonly replay: ReadonlyArray<Batch>
}

/** A frame of one channel stays below this many UTF-16 units of payload, so that no frame is huge. */
const maxBatchText = 64 * 1024
/** And below this many events. */
const maxBatchEvents = 256
/** How many batches a Stream may lag behind before it is told `gap slow`. */
const streamBacklog = 256

/** 8 characters: an epoch need only differ from the few that a client may still hold. */
const newEpoch = (): string => randomBytes(6).toString("base64url")

const unparsable: unique symbol = Symbol("unparsable")

const parse = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    return unparsable
  }
}

export class OpenChannel {
  readonly name: string
  readonly #ring: Ring
  readonly #views = new Map<object, View>()
  #epoch = newEpoch()
  #seq = 0

  constructor(name: string, budget: Budget) {
    this.name = name
    this.#ring = new Ring(budget)
  }

  /** The position after the newest notification. */
  get cursor(): string {
    return Cursor.formatLive(this.#epoch, this.#seq)
  }

  /** The channel as `channel` defines it; `release` it as often as it was taken. */
  view(channel: Channel.Any): View {
    let view = this.#views.get(channel.codec)
    if (view === undefined) {
      view = new View(this, channel)
      this.#views.set(channel.codec, view)
    }
    view.users++
    return view
  }

  release(view: View): void {
    view.users--
    if (view.users === 0) this.#views.delete(view.channel.codec)
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
      for (const view of this.#views.values()) {
        invalid += view.deliver(this.#epoch, entries, parsed)
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

  /** A lost link begins a new epoch: no cursor from before it may ever look like it still holds. */
  #beginEpoch(): void {
    this.#epoch = newEpoch()
    this.#seq = 0
    this.#ring.clear()
    for (const view of this.#views.values()) view.tellGap("source", this.cursor)
  }

  /** What follows `from` for a view, or that it cannot be had any more. */
  position(view: View, from: string | undefined, now: number): Position {
    const { cursor } = this
    if (from === undefined) return { state: "fresh", cursor, replay: [] }
    const parsed = Cursor.parseLive(from)
    const entries =
      parsed?.epoch === this.#epoch ? this.#ring.after(parsed.seq, this.#seq, now) : undefined
    return entries === undefined
      ? { state: "reset", cursor, replay: [] }
      : { state: "recovered", cursor: from, replay: view.replay(this.#epoch, entries) }
  }
}

export class View {
  readonly channel: Channel.Any
  readonly sinks = new Set<Sink>()
  users = 0
  /** The number of the newest batch. */
  number = 0
  readonly #open: OpenChannel
  #batches: PubSub.PubSub<Batch> | undefined

  constructor(open: OpenChannel, channel: Channel.Any) {
    this.#open = open
    this.channel = channel
  }

  /** For Streams. Sliding: one that is too slow loses batches and sees it by their numbers. */
  get batches(): PubSub.PubSub<Batch> {
    return (this.#batches ??= Effect.runSync(PubSub.sliding<Batch>(streamBacklog)))
  }

  position(from: string | undefined, now: number): Position {
    return this.#open.position(this, from, now)
  }

  release(): void {
    this.#open.release(this)
  }

  /** Delivers notifications to everybody; returns how many were invalid. */
  deliver(epoch: string, entries: ReadonlyArray<Entry>, parsed: ReadonlyArray<unknown>): number {
    let invalid = 0
    for (const batch of this.#batch(epoch, entries, parsed, this.sinks.size > 0)) {
      if (batch.gap !== undefined) invalid++
      this.#hand(batch)
    }
    return invalid
  }

  tellGap(reason: GapReason, cursor: string): void {
    this.#hand(new Batch(this.channel.name, ++this.number, cursor, cursor, reason))
  }

  /** The same entries again for one subscriber; they do not count in the numbers of the others. */
  replay(epoch: string, entries: ReadonlyArray<Entry>): ReadonlyArray<Batch> {
    const { number } = this
    const parsed = entries.map((entry) => parse(entry.text))
    const batches = [...this.#batch(epoch, entries, parsed, true)]
    this.number = number
    return batches
  }

  #hand(batch: Batch): void {
    // Unsafe publishing does not slide when it is full; the effect does, and never waits.
    if (this.#batches !== undefined && !PubSub.publishUnsafe(this.#batches, batch)) {
      Effect.runSync(PubSub.publish(this.#batches, batch))
    }
    for (const sink of this.sinks) sink.offer(batch)
  }

  *#batch(
    epoch: string,
    entries: ReadonlyArray<Entry>,
    parsed: ReadonlyArray<unknown>,
    wire: boolean
  ): Generator<Batch> {
    const { name } = this.channel
    let events: Array<BatchEvent> = []
    let size = 0
    let from = Cursor.formatLive(epoch, entries[0] === undefined ? 0 : entries[0].seq - 1)
    for (let index = 0; index < entries.length; index++) {
      const { at, seq, text } = entries[index]!
      const id = Cursor.formatLive(epoch, seq)
      const event = this.#decode(id, at, parsed[index], wire)
      if (event !== undefined) {
        events.push(event)
        size += text.length
      }
      const full = size >= maxBatchText || events.length >= maxBatchEvents
      if (events.length > 0 && (full || event === undefined || index === entries.length - 1)) {
        const cursor = events[events.length - 1]!.id
        yield new Batch(name, ++this.number, from, cursor, events)
        from = cursor
        events = []
        size = 0
      }
      if (event === undefined) {
        yield new Batch(name, ++this.number, from, id, "invalid")
        from = id
      }
    }
  }

  /** `undefined` when the notification does not match the channel's schema. */
  #decode(id: string, at: number, json: unknown, wire: boolean): BatchEvent | undefined {
    if (json === unparsable) return undefined
    const payload = this.channel.decode(json)
    if (Result.isFailure(payload)) return undefined
    if (!wire) return { id, at: new Date(at), payload: payload.success, json: undefined }
    const text = Channel.toJson(this.channel as Channel.Channel<unknown>, payload.success)
    return Result.isFailure(text)
      ? undefined
      : { id, at: new Date(at), payload: payload.success, json: text.success }
  }
}
