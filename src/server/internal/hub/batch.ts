/**
 * What a channel sends to its subscribers: events that arrived together, a gap, or a position.
 *
 * A batch carries its cursor, so the events of a subscriber and its position cannot disagree. A batch
 * is encoded at most once, for the first socket that needs it.
 */
import * as Effect from "effect/Effect"
import { encode } from "../../../Frame.ts"
import { encodeEvent, encodeEvents } from "../../../internal/frameText.ts"
import {
  type Event,
  Gap,
  type GapReason,
  type InvalidChange,
  type InvalidMessage,
  type RealtimeEvent
} from "../../../RealtimeEvent.ts"
import { Missing } from "./invalidMessage.ts"
import { Outgoing } from "./outgoing.ts"

export interface BatchEvent {
  readonly id: string
  /** Milliseconds since 1970. */
  readonly at: number
  readonly payload: unknown
  /** The payload as JSON text for the wire; `undefined` while no socket is subscribed. */
  readonly json: string | undefined
  /** The transaction that wrote it; durable channels only. */
  readonly tx: string | undefined
}

/** A part of a replay that is sent at once. Its batches are made by `open`. */
export interface Step {
  /** The position before the step. */
  readonly from: string
  /** Its events, and roughly the bytes of their payloads. */
  readonly size: { readonly events: number; readonly bytes: number }
  /** The batches. Each subscriber gets the same objects. */
  readonly open: Effect.Effect<ReadonlyArray<Batch>>
  /** The position after the step. */
  readonly cursor: string
}

/** A batch with a newer cursor and no events, so that a quiet subscription's cursor does not age out. */
export const position: unique symbol = Symbol("position")

/** The cursor of a channel without positions. It does not travel. */
export const nowhere = ""

/** One event of a batch, for a socket that is busy. */
export interface Piece {
  /** A newer event with this key takes its place. */
  readonly key: string
  /** The event as text for the wire. */
  readonly text: string
  /** Roughly its bytes in memory. */
  readonly bytes: number
}

export class Batch extends Outgoing implements Step {
  readonly channel: string
  /** Of a view with a filter: the text that its frames carry. */
  readonly view: string | undefined
  /** Whether a subscriber can resume after its mailbox dropped this. If not, it receives a gap. */
  readonly resumes: boolean
  /**
   * Grows from batch to batch of a channel. A subscriber that joined at a tick has everything up to it.
   * On a live channel it counts the batches one by one, so a jump means that batches were dropped.
   */
  readonly tick: number
  /** The position before the first event. */
  readonly from: string
  /** The position after the last event. */
  readonly cursor: string
  events: ReadonlyArray<BatchEvent>
  /** The reason of a gap; a gap has no events. */
  readonly gap: GapReason | undefined
  /** The message that did not match the schema, for a gap with the reason `invalid`. */
  readonly invalid: InvalidMessage | undefined
  /** The change of a row that is missing, where a gap has nothing else. */
  readonly change: InvalidChange | undefined
  /** Whether a subscriber that has the state of the channel needs another one after this. */
  readonly endsState: boolean
  #sealed: { readonly events: number; readonly bytes: number } | undefined

  /** `of`: the view that the batch is for. `isTruncated`: whether an event lacks its row. */
  constructor(
    of: {
      readonly name: string
      readonly resumes: boolean
      readonly label?: string | undefined
    },
    tick: number,
    from: string,
    cursor: string,
    content: ReadonlyArray<BatchEvent> | GapReason | Missing | typeof position,
    isTruncated = false
  ) {
    super()
    this.channel = of.name
    this.view = of.label
    this.resumes = of.resumes
    this.tick = tick
    this.from = from
    this.cursor = cursor
    const missing = content instanceof Missing ? content : undefined
    this.events = Array.isArray(content) ? content : []
    this.gap = typeof content === "string" ? content : missing?.reason
    this.invalid = missing?.invalid
    this.change = missing?.change
    this.endsState = isTruncated || (this.gap !== undefined && this.change === undefined)
  }

  /** Names the subscription of the batch among all subscriptions of a socket, as `key` of a view. */
  get key(): string {
    return this.view === undefined ? this.channel : `${this.channel} ${this.view}`
  }

  /** A batch is a step of its own. */
  get open(): Effect.Effect<ReadonlyArray<Batch>> {
    return Effect.succeed([this])
  }

  /** The events one by one if a busy socket needs only the newest of each key. */
  get pieces(): ReadonlyArray<Piece> | undefined {
    return undefined
  }

  /** The number of its events. */
  get count(): number {
    return this.#sealed === undefined ? this.events.length : this.#sealed.events
  }

  /** Its events, and roughly their bytes: UTF-16 units of JSON. */
  get size(): { readonly events: number; readonly bytes: number } {
    if (this.#sealed !== undefined) return this.#sealed
    const bytes = this.events.reduce((sum, { json = "" }) => sum + json.length, 0)
    return { events: this.events.length, bytes }
  }

  /** Keeps the text and drops the events. Only for batches that Streams do not read. */
  seal(): this {
    this.#sealed = this.size
    this.settle()
    this.events = []
    return this
  }

  protected override write(): string {
    const { change, channel, cursor, events, gap, view } = this
    const of = view === undefined ? { channel } : { channel, view }
    if (gap !== undefined) {
      const known = change === undefined ? {} : { change }
      return encode({ type: "gap", ...of, reason: gap, cursor, ...known })
    }
    if (events.length === 0) return encode({ type: "cursor", ...of, cursor })
    return encodeEvents(
      channel,
      cursor,
      events.map(({ at, id, json, tx }) => encodeEvent(id, isoOf(at), json ?? "null", tx)),
      view
    )
  }

  /** The batch as the values of a Stream. */
  toEvents(): ReadonlyArray<RealtimeEvent<unknown>> {
    const { change, channel, cursor, events, gap, invalid } = this
    if (gap !== undefined) {
      const known = { ...(invalid && { invalid }), ...(change && { change }) }
      return [new Gap({ channel, reason: gap, cursor, ...known })]
    }
    const last = events.length - 1
    return events.map(({ at, id, payload, tx }, index): Event<unknown> => ({
      _tag: "Event",
      channel,
      id,
      at: new Date(at),
      payload,
      // The id of a live event is its position. In a durable batch only the last event has one.
      cursor:
        cursor === nowhere
          ? undefined
          : tx === undefined
            ? id
            : index === last
              ? cursor
              : undefined,
      tx
    }))
  }
}

let lastAt = Number.NaN
let lastIso = ""

/** Formats a time. Events that arrive together share theirs, so the last result is kept. */
export const isoOf = (at: number): string => {
  if (at !== lastAt) {
    lastIso = new Date(at).toISOString()
    lastAt = at
  }
  return lastIso
}
