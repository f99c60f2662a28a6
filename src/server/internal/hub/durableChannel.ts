/**
 * One durable channel that a node follows: what the outbox hands out, as its views see it.
 *
 * The outbox orders, remembers and resumes; nothing is kept here. Where a message does not match a view's
 * schema, or tells a gap itself, a batch is cut: the gap stands in its place, its cursor behind it.
 */
import * as Effect from "effect/Effect"
import type { OutboxFault, OutboxReader, ReplayError } from "../../OutboxReader.ts"
import type * as Outbox from "../../OutboxReader.ts"
import { Batch, type BatchEvent, position } from "./batch.ts"
import { Missing } from "./missing.ts"
import type { Told } from "./told.ts"
import { type Join, type View, Views } from "./view.ts"

/** Why somebody could not start: nothing was sent. */
export type DurableError = OutboxFault | ReplayError

export class DurableChannel extends Views<DurableError> {
  readonly #reader: OutboxReader["Service"]

  constructor(name: string, reader: OutboxReader["Service"], told: Told) {
    super(name, told)
    this.#reader = reader
  }

  /** Takes what was handed out together. Returns the messages that are gaps. */
  receive(items: ReadonlyArray<Outbox.Item>): ReadonlyArray<Missing> {
    const missing: Array<Missing> = []
    for (const item of items) {
      for (let view = this.first; view !== undefined; view = view.next) {
        for (const batch of batchesOf(view, this.name, item, view.subscribed, missing)) {
          view.hand(batch)
        }
      }
    }
    return missing
  }

  protected override join(
    view: View<DurableError>,
    from: string | undefined,
    part: Outbox.Part | undefined
  ): Effect.Effect<Join, DurableError> {
    return Effect.flatMap(this.#reader.join(this.name, from, undefined, part), (join) => {
      const missing: Array<Missing> = []
      const replay = join.replay.flatMap((item) => batchesOf(view, this.name, item, true, missing))
      return Effect.as(this.told.tell(this.name, missing), { ...join, replay })
    })
  }
}

/** One item of the outbox as a view sees it. Notes in `missing` what is a gap. */
export const batchesOf = <E>(
  view: View<E>,
  name: string,
  item: Outbox.Item,
  wire: boolean,
  missing: Array<Missing>
): ReadonlyArray<Batch> => {
  const { cursor, tick } = item
  if (item._tag === "Position") return [new Batch(name, tick, cursor, cursor, position)]
  if (item._tag === "Gap") return [new Batch(name, tick, cursor, cursor, item.reason)]
  const batches: Array<Batch> = []
  let { from } = item
  let events: Array<BatchEvent> = []
  const add = (to: string, content: ReadonlyArray<BatchEvent> | Missing) => {
    batches.push(new Batch(name, tick, from, to, content))
    from = to
  }
  for (const [index, { at, id, text, tx }] of item.events.entries()) {
    const event = view.decode(id, at, tx, text, wire)
    if (!(event instanceof Missing)) {
      events.push(event)
      continue
    }
    missing.push(event)
    if (events.length > 0) add(item.cursorAt(index - 1), events)
    events = []
    add(item.cursorAt(index), event)
  }
  if (events.length > 0) add(cursor, events)
  return batches
}
