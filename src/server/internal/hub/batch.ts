/**
 * What travels from a channel to its subscribers: events that arrived together, a gap, or a position.
 *
 * A batch carries its cursor, so what somebody has and where they stand cannot disagree. It is
 * encoded for the wire at most once, on the first socket that needs it.
 */
import * as Effect from "effect/Effect"
import { encode } from "../../../Frame.ts"
import { encodeEvent, encodeEvents } from "../../../internal/frameText.ts"
import {
  type Event,
  Gap,
  type GapReason,
  type InvalidMessage,
  type RealtimeEvent
} from "../../../RealtimeEvent.ts"
import { Missing } from "./invalidMessage.ts"
import { Outgoing } from "./outgoing.ts"

export interface BatchEvent {
  readonly id: string
  /** In milliseconds since 1970. */
  readonly at: number
  readonly payload: unknown
  /** The payload as JSON text for the wire; `undefined` while no socket is subscribed. */
  readonly json: string | undefined
  /** The transaction that wrote it; durable channels only. */
  readonly tx: string | undefined
}

/** What of a replay is handled together: batches that may be yet to make. */
export interface Step {
  /** The position before it. */
  readonly from: string
  /** How much it carries: `bytes` of payload, close enough. */
  readonly size: { readonly events: number; readonly bytes: number }
  /** The same objects for everybody who comes to it. */
  readonly open: Effect.Effect<ReadonlyArray<Batch>>
  /** The position after it. */
  readonly cursor: string
}

/** Nothing but a newer cursor, so that a quiet subscription does not age out. */
export const position: unique symbol = Symbol("position")

export class Batch extends Outgoing implements Step {
  readonly channel: string
  /** Whether its subscribers can go on from a cursor when it is dropped: else they are told a gap. */
  readonly resumes: boolean
  /**
   * Grows from batch to batch of a channel. A subscriber that joined at a tick has everything up to
   * it. On a live channel it counts the batches one by one, so a jump tells that some were dropped.
   */
  readonly tick: number
  /** The position before the first event. */
  readonly from: string
  /** The position after the last event. */
  readonly cursor: string
  events: ReadonlyArray<BatchEvent>
  /** Set when this is a gap; it has no events then. */
  readonly gap: GapReason | undefined
  /** Of a gap: the message that did not fit. */
  readonly invalid: InvalidMessage | undefined
  #sealed: { readonly events: number; readonly bytes: number } | undefined

  /** `of`: the view that it is for. */
  constructor(
    of: { readonly name: string; readonly resumes: boolean },
    tick: number,
    from: string,
    cursor: string,
    content: ReadonlyArray<BatchEvent> | GapReason | Missing | typeof position
  ) {
    super()
    this.channel = of.name
    this.resumes = of.resumes
    this.tick = tick
    this.from = from
    this.cursor = cursor
    const missing = content instanceof Missing ? content : undefined
    this.events = Array.isArray(content) ? content : []
    this.gap = typeof content === "string" ? content : missing?.reason
    this.invalid = missing?.invalid
  }

  /** Of a replay, it is a step by itself. */
  get open(): Effect.Effect<ReadonlyArray<Batch>> {
    return Effect.succeed([this])
  }

  /** How much it carries: `bytes` in UTF-16 units of JSON, close enough. */
  get size(): { readonly events: number; readonly bytes: number } {
    if (this.#sealed !== undefined) return this.#sealed
    const bytes = this.events.reduce((sum, { json = "" }) => sum + json.length, 0)
    return { events: this.events.length, bytes }
  }

  /** Keeps the text and lets go of the events: for sockets alone. */
  seal(): this {
    this.#sealed = this.size
    this.settle()
    this.events = []
    return this
  }

  protected override write(): string {
    const { channel, cursor, events, gap } = this
    if (gap !== undefined) return encode({ type: "gap", channel, reason: gap, cursor })
    if (events.length === 0) return encode({ type: "cursor", channel, cursor })
    return encodeEvents(
      channel,
      cursor,
      events.map(({ at, id, json, tx }) => encodeEvent(id, isoOf(at), json ?? "null", tx))
    )
  }

  /** The same as values, for a Stream. */
  toEvents(): ReadonlyArray<RealtimeEvent<unknown>> {
    const { channel, cursor, events, gap, invalid } = this
    if (gap !== undefined) {
      return [
        new Gap({ channel, reason: gap, cursor, ...(invalid === undefined ? {} : { invalid }) })
      ]
    }
    const last = events.length - 1
    return events.map(({ at, id, payload, tx }, index): Event<unknown> => ({
      _tag: "Event",
      channel,
      id,
      at: new Date(at),
      payload,
      // A live event's id is its position; inside a durable batch only its end is one.
      cursor: tx === undefined ? id : index === last ? cursor : undefined,
      tx
    }))
  }
}

let lastAt = Number.NaN
let lastIso = ""

/** What arrives together has the same time: it is written out once. */
const isoOf = (at: number): string => {
  if (at !== lastAt) {
    lastIso = new Date(at).toISOString()
    lastAt = at
  }
  return lastIso
}
