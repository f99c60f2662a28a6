/**
 * One durable channel that a node follows: what the outbox hands out, as its views see it.
 *
 * The outbox orders, remembers and resumes; nothing is kept here. A message that does not match a
 * view's schema is told as a gap before the batch it came in, whose cursor is behind it.
 */
import * as Effect from "effect/Effect"
import type { OutboxFault, OutboxReader, ReplayError } from "../../OutboxReader.ts"
import type * as Outbox from "../../OutboxReader.ts"
import { Batch, type BatchEvent, position } from "./batch.ts"
import { type Join, parse, type View, Views } from "./view.ts"

/** Why somebody could not start: nothing was sent. */
export type DurableError = OutboxFault | ReplayError

export class DurableChannel extends Views<DurableError> {
  readonly #reader: OutboxReader["Service"]

  constructor(name: string, reader: OutboxReader["Service"]) {
    super(name)
    this.#reader = reader
  }

  /** Takes what was handed out together. Returns how many messages did not match a view's schema. */
  receive(items: ReadonlyArray<Outbox.Item>): number {
    let invalid = 0
    for (const item of items) {
      for (let view = this.first; view !== undefined; view = view.next) {
        for (const batch of batchesOf(view, this.name, item, view.subscribed)) {
          if (batch.gap === "invalid") invalid++
          view.hand(batch)
        }
      }
    }
    return invalid
  }

  protected override join(
    view: View<DurableError>,
    from: string | undefined,
    part: Outbox.Part | undefined
  ): Effect.Effect<Join, DurableError> {
    return Effect.map(this.#reader.join(this.name, from, undefined, part), (join) => ({
      ...join,
      replay: join.replay.flatMap((item) => batchesOf(view, this.name, item, true))
    }))
  }
}

/** One item of the outbox as a view sees it. */
export const batchesOf = <E>(
  view: View<E>,
  name: string,
  item: Outbox.Item,
  wire: boolean
): ReadonlyArray<Batch> => {
  const { cursor, tick } = item
  if (item._tag === "Position") return [new Batch(name, tick, cursor, cursor, position)]
  if (item._tag === "Gap") return [new Batch(name, tick, cursor, cursor, item.reason)]
  const events: Array<BatchEvent> = []
  for (const { at, id, text, tx } of item.events) {
    const event = view.decode(id, at, tx, parse(text), wire)
    if (event !== undefined) events.push(event)
  }
  const batch = new Batch(name, tick, item.from, cursor, events)
  if (events.length === item.events.length) return [batch]
  // Nothing is left of a batch without a valid message but the position behind it.
  const gapAt = events.length === 0 ? cursor : item.from
  const gap = new Batch(name, tick, item.from, gapAt, "invalid")
  return events.length === 0 ? [gap] : [gap, batch]
}
