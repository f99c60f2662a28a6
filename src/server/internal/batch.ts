/**
 * What travels from a channel to its subscribers: events that arrived together, or a gap.
 *
 * A batch carries its cursor, so what somebody has and where they stand cannot disagree. It is
 * encoded for the wire at most once, on the first socket that needs it.
 */
import { encode, encodeEvent, encodeEvents } from "../../Frame.ts"
import { type Event, Gap, type GapReason, type RealtimeEvent } from "../../RealtimeEvent.ts"
import { textFrame } from "./frames.ts"

export interface BatchEvent {
  readonly id: string
  readonly at: Date
  readonly payload: unknown
  /** The payload as JSON text for the wire; `undefined` while no socket is subscribed. */
  readonly json: string | undefined
}

export class Batch {
  readonly channel: string
  /** Counts the batches of one channel and codec from 1: a jump tells that some were dropped. */
  readonly number: number
  /** The position before the first event. */
  readonly from: string
  /** The position after the last event. */
  readonly cursor: string
  readonly events: ReadonlyArray<BatchEvent>
  /** Set when this is a gap; it has no events then. */
  readonly gap: GapReason | undefined
  #frame: Buffer | undefined

  constructor(
    channel: string,
    number: number,
    from: string,
    cursor: string,
    content: ReadonlyArray<BatchEvent> | GapReason
  ) {
    this.channel = channel
    this.number = number
    this.from = from
    this.cursor = cursor
    this.events = typeof content === "string" ? [] : content
    this.gap = typeof content === "string" ? content : undefined
  }

  /** The bytes for every socket of the channel. */
  get frame(): Buffer {
    return (this.#frame ??= textFrame(this.#text()))
  }

  #text(): string {
    const { channel, cursor } = this
    return this.gap === undefined
      ? encodeEvents(
          channel,
          cursor,
          this.events.map(({ at, id, json }) => encodeEvent(id, at.toISOString(), json ?? "null"))
        )
      : encode({ type: "gap", channel, reason: this.gap, cursor })
  }

  /** The same as values, for a Stream. */
  toEvents(): ReadonlyArray<RealtimeEvent<unknown>> {
    const { channel, cursor } = this
    return this.gap === undefined
      ? this.events.map(({ at, id, payload }): Event<unknown> => ({
          _tag: "Event",
          channel,
          id,
          at,
          payload,
          // A live event's id is its position.
          cursor: id,
          tx: undefined
        }))
      : [new Gap({ channel, reason: this.gap, cursor })]
  }
}
