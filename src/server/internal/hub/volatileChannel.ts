/**
 * One volatile channel of a node: hands the events of one turn of the loop to its views, and keeps
 * nothing.
 *
 * A message that does not match a view's schema is dropped, counted and logged. It is no gap, because
 * nothing of the channel can be read again.
 */
import * as Effect from "effect/Effect"
import { encodeEvent } from "../../../internal/frameText.ts"
import { maxBatchEvents, maxBatchText } from "../outbox/tail.ts"
import { eventBytes } from "../ring.ts"
import { Batch, type BatchEvent, isoOf, nowhere, type Piece } from "./batch.ts"
import { Missing } from "./invalidMessage.ts"
import { Newest } from "./newest.ts"
import { type View, type ViewJoin, Views } from "./view.ts"

/** A published payload, with what its publisher adds, so that every node may hand it on. */
export interface VolatileEvent {
  /** Unique within the channel, over all nodes. */
  readonly id: string
  /** Milliseconds since 1970. */
  readonly at: number
  /** Of each publisher the newest event counts on a channel without `latestBy`. */
  readonly publisher: string
  /** The payload as JSON text that the channel's codec made. */
  readonly json: string
}

/** Events of which a busy subscriber needs only the newest of each key. */
export class VolatileBatch extends Batch {
  /** The key of each event. */
  readonly keys: ReadonlyArray<string>
  #pieces: ReadonlyArray<Piece> | undefined

  constructor(
    of: { readonly name: string; readonly resumes: boolean },
    tick: number,
    events: ReadonlyArray<BatchEvent>,
    keys: ReadonlyArray<string>
  ) {
    super(of, tick, nowhere, nowhere, events)
    this.keys = keys
  }

  override get pieces(): ReadonlyArray<Piece> {
    return (this.#pieces ??= this.events.map(({ at, id, json = "null" }, index) => {
      const text = encodeEvent(id, isoOf(at), json)
      return { key: this.keys[index]!, text, bytes: text.length + eventBytes }
    }))
  }
}

/** How much may wait for `deliver`. Beyond, the newest event of each key waits, within half of it. */
const mostWaiting = { events: 4096, bytes: 4 * 1024 * 1024 }

export class VolatileChannel extends Views {
  /** Events that wait for `deliver`. */
  #arrived: Array<VolatileEvent> = []
  /** Their bytes, roughly. */
  #bytes = 0
  #dropped = 0

  protected override get resumes(): boolean {
    return false
  }

  /** Adds an event. Returns `true` when it is the first one that waits for `deliver`. */
  push(event: VolatileEvent): boolean {
    this.#bytes += sizeOf(event)
    const isFirst = this.#arrived.push(event) === 1
    if (this.#arrived.length > mostWaiting.events || this.#bytes > mostWaiting.bytes) {
      this.#shorten()
    }
    return isFirst
  }

  /** The events that were dropped since the last call because too many with different keys waited. */
  takeDropped(): number {
    const dropped = this.#dropped
    this.#dropped = 0
    return dropped
  }

  /** Keeps the newest event of each key. Views of different definitions may differ in their keys. */
  #shorten(): void {
    const fields = new Set<string | undefined>()
    for (let view = this.first; view !== undefined; view = view.next) {
      fields.add(view.channel.latestBy)
    }
    const { bytes, events } = mostWaiting
    const newest = new Newest<VolatileEvent & { readonly bytes: number }>({
      keys: events / 2,
      bytes: bytes / 2
    })
    for (const event of this.#arrived) {
      const keys = [...fields].map((field) => keyOf(field, event.json, event.publisher))
      this.#dropped += newest.put(keys.join(" "), { ...event, bytes: sizeOf(event) })
    }
    this.#arrived = [...newest.entries()].map(([, event]) => event)
    this.#bytes = this.#arrived.reduce((sum, event) => sum + sizeOf(event), 0)
  }

  /** Hands waiting events to the views. Returns the messages that were dropped. */
  deliver(): ReadonlyArray<Missing> {
    const arrived = this.#arrived
    this.#arrived = []
    this.#bytes = 0
    const missing: Array<Missing> = []
    for (let view = this.first; view !== undefined; view = view.next) {
      this.#hand(view, arrived, missing)
    }
    return missing
  }

  #hand(view: View, arrived: ReadonlyArray<VolatileEvent>, missing: Array<Missing>): void {
    let events: Array<BatchEvent> = []
    let keys: Array<string> = []
    let size = 0
    const flush = () => {
      if (events.length > 0) view.hand(new VolatileBatch(view, view.tick + 1, events, keys))
      events = []
      keys = []
      size = 0
    }
    for (const { at, id, json, publisher } of arrived) {
      const event = view.decode(id, at, undefined, json, view.subscribed)
      if (event instanceof Missing) {
        missing.push(event)
        continue
      }
      events.push(event)
      keys.push(keyOf(view.channel.latestBy, json, publisher))
      size += json.length
      if (size >= maxBatchText || events.length === maxBatchEvents) flush()
    }
    flush()
  }

  /** A subscriber starts at the next event, whatever its cursor says. */
  protected override join(view: View): Effect.Effect<ViewJoin> {
    return Effect.sync(() => ({
      state: "fresh",
      cursor: nowhere,
      tick: view.tick,
      replay: [],
      more: false,
      bytes: 0
    }))
  }
}

const sizeOf = ({ json }: VolatileEvent): number => json.length + eventBytes

/** The key of an event: its value of the field, as text. An event without the field counts for its publisher. */
export const keyOf = (latestBy: string | undefined, json: string, publisher: string): string => {
  if (latestBy === undefined) return publisher
  const fields = Object(JSON.parse(json)) as Readonly<Record<string, unknown>>
  return Object.hasOwn(fields, latestBy) ? JSON.stringify(fields[latestBy]) : publisher
}
