/**
 * Items of the outbox as batches of a view.
 *
 * A batch is cut at a message that does not match the view's schema or reports a gap. The gap takes the
 * place of the message, with the cursor after it.
 */
import type * as Outbox from "../../OutboxReader.ts"
import { Batch, type BatchEvent, position } from "./batch.ts"
import { Missing } from "./invalidMessage.ts"
import { isTruncated } from "./rowChange.ts"
import type { View } from "./view.ts"

/** The batch of an item without events. */
export const batchWithout = <E>(
  view: View<E>,
  item: Outbox.DurableGap | Outbox.DurablePosition
): Batch => {
  const cursor = view.cursorOf(item.cursor)
  if (item._tag === "Gap") return new Batch(view, item.tick, cursor, cursor, item.reason)
  // A subscriber that does not receive the end of a tick resumes from before it.
  const from = item.ends === undefined ? cursor : view.cursorOf(item.ends)
  return new Batch(view, item.tick, from, cursor, position)
}

/** Collects the events of one item for one view. Events that it is not given are not the view's. */
export class ItemBatches<E> {
  readonly #view: View<E>
  readonly #item: Outbox.DurableBatch
  #from: string
  #batches: Array<Batch> = []
  #events: Array<BatchEvent> = []
  /** The gap in place of the last message. */
  #gap: { readonly index: number; readonly event: Missing } | undefined
  /** Whether one of these events lacks its row. */
  #isTruncated = false

  constructor(view: View<E>, item: Outbox.DurableBatch) {
    this.#view = view
    this.#item = item
    this.#from = item.from
  }

  /** Adds what the view has of the item's event with this index. */
  add(index: number, event: BatchEvent | Missing): void {
    this.#endGap()
    if (!(event instanceof Missing)) {
      this.#events.push(event)
      if (this.#view.channel.table !== undefined && isTruncated(event.payload)) {
        this.#isTruncated = true
      }
      return
    }
    if (this.#events.length > 0) this.#cut(this.#item.cursorAt(index - 1), this.#events)
    this.#events = []
    this.#gap = { index, event }
  }

  /** The batches, after the last event. */
  end(): ReadonlyArray<Batch> {
    const { cursor } = this.#item
    if (this.#gap !== undefined) this.#cut(cursor, this.#gap.event)
    else if (this.#events.length > 0) this.#cut(cursor, this.#events)
    return this.#batches
  }

  /** The gap ends at its message where events follow it, and else with the item. */
  #endGap(): void {
    if (this.#gap !== undefined) this.#cut(this.#item.cursorAt(this.#gap.index), this.#gap.event)
    this.#gap = undefined
  }

  #cut(to: string, content: ReadonlyArray<BatchEvent> | Missing): void {
    const view = this.#view
    const from = view.cursorOf(this.#from)
    const { tick } = this.#item
    this.#batches.push(new Batch(view, tick, from, view.cursorOf(to), content, this.#isTruncated))
    this.#from = to
    this.#isTruncated = false
  }
}

/** The batches of one item as a view without a filter decodes it. Adds its gaps to `missing`. */
export const batchesOfItem = <E>(
  view: View<E>,
  item: Outbox.Item,
  wire: boolean,
  missing: Array<Missing>
): ReadonlyArray<Batch> => {
  if (item._tag !== "Batch") return [batchWithout(view, item)]
  const batches = new ItemBatches(view, item)
  for (const [index, { at, id, text, tx }] of item.events.entries()) {
    const event = view.decode(id, at, tx, text, wire)
    if (event instanceof Missing) missing.push(event)
    batches.add(index, event)
  }
  return batches.end()
}
