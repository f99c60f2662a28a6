/**
 * One durable channel that a node follows: turns the items of the outbox into batches of its views.
 *
 * The outbox orders, remembers and resumes; this keeps nothing. A batch is cut at a message that does
 * not match a view's schema or reports a gap. The gap takes the place of the message, with the cursor
 * after it.
 */
import * as Effect from "effect/Effect"
import type { OutboxReader } from "../../OutboxReader.ts"
import type * as Outbox from "../../OutboxReader.ts"
import type { Lease } from "../outbox/sharedReads.ts"
import { Batch, type BatchEvent, position, type Step } from "./batch.ts"
import type { JoinError } from "../outbox/catchUp.ts"
import { Missing } from "./invalidMessage.ts"
import type { Told } from "./gapCounter.ts"
import { type View, type ViewJoin, Views } from "./view.ts"

export class DurableChannel extends Views<JoinError> {
  readonly #reader: OutboxReader["Service"]

  constructor(name: string, reader: OutboxReader["Service"], told: Told) {
    super(name, told)
    this.#reader = reader
  }

  protected override get resumes(): boolean {
    return true
  }

  /** Takes the items that the outbox hands out together. Returns the messages that are gaps. */
  receive(items: ReadonlyArray<Outbox.Item>): ReadonlyArray<Missing> {
    const missing: Array<Missing> = []
    for (const item of items) {
      for (let view = this.first; view !== undefined; view = view.next) {
        for (const batch of batchesOfItem(view, item, view.subscribed, missing)) {
          view.hand(batch)
        }
      }
    }
    return missing
  }

  protected override join(
    view: View<JoinError>,
    from: string | undefined,
    part: Outbox.Part | undefined,
    lease: Lease | undefined
  ): Effect.Effect<ViewJoin, JoinError> {
    return Effect.map(this.#reader.join(this.name, from, undefined, part, lease), (join) => ({
      ...join,
      replay: join.replay.map((batch) => this.#step(view, batch))
    }))
  }

  /** One step for all joins that meet this batch. */
  #step(view: View<JoinError>, batch: Outbox.DurableBatch): Step {
    const known = view.replayed.get(batch)
    if (known !== undefined) return known
    const step = new Replayed(view, batch, this.told)
    view.replayed.set(batch, step)
    return step
  }
}

/** One batch of a replay as a view decodes it. The first reader decodes, validates and encodes it. */
class Replayed implements Step {
  readonly from: string
  readonly cursor: string
  readonly size: { readonly events: number; readonly bytes: number }
  readonly open: Effect.Effect<ReadonlyArray<Batch>>

  constructor(view: View<JoinError>, batch: Outbox.DurableBatch, told: Told) {
    const { channel, cursor, events, from, tick } = batch
    this.from = from
    this.cursor = cursor
    const bytes = events.reduce((sum, { text }) => sum + text.length, 0)
    this.size = { events: events.length, bytes }
    // The batches of the first reader, while they are in memory.
    let made: { readonly deref: () => ReadonlyArray<Batch> | undefined } | undefined
    this.open = Effect.suspend(() => {
      const known = made?.deref()
      if (known !== undefined) return Effect.succeed(known)
      const missing: Array<Missing> = []
      const batches = batchesOfItem(view, batch, true, missing).map((one) => one.seal())
      // A batch with tick 0 was read for this replay and goes with it. Others stay in the node's ring,
      // which must not grow.
      made = tick === 0 ? { deref: () => batches } : new WeakRef(batches)
      return Effect.as(told.tell(channel, missing), batches)
    })
  }
}

/** The batches of one item of the outbox as a view decodes it. Adds its gaps to `missing`. */
export const batchesOfItem = <E>(
  view: View<E>,
  item: Outbox.Item,
  wire: boolean,
  missing: Array<Missing>
): ReadonlyArray<Batch> => {
  const { cursor, tick } = item
  if (item._tag === "Position") return [new Batch(view, tick, cursor, cursor, position)]
  if (item._tag === "Gap") return [new Batch(view, tick, cursor, cursor, item.reason)]
  const batches: Array<Batch> = []
  let { from } = item
  let events: Array<BatchEvent> = []
  const add = (to: string, content: ReadonlyArray<BatchEvent> | Missing) => {
    batches.push(new Batch(view, tick, from, to, content))
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
