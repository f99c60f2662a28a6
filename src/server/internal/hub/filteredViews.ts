/**
 * The views of one durable channel and codec that have a filter.
 *
 * An event is judged for the views that it may touch, and decoded once for all of them. A view receives one
 * batch of an item, or nothing when its filter includes nothing of the item. What says nothing about single
 * rows goes to every view.
 */
import * as Effect from "effect/Effect"
import type * as Channel from "../../../Channel.ts"
import type * as Outbox from "../../OutboxReader.ts"
import type { Filter } from "../filter.ts"
import type { Batch } from "./batch.ts"
import { FilterIndex } from "./filterIndex.ts"
import { Missing } from "./invalidMessage.ts"
import { batchWithout, ItemBatches } from "./itemBatches.ts"
import { Judged } from "./judged.ts"
import type { Distribution } from "../tally.ts"
import { View } from "./view.ts"
import type { Narrowed } from "./viewCursor.ts"

export class FilteredView<E> extends View<E> {
  readonly filter: Filter

  constructor(
    channel: Channel.Any,
    join: View<E>["join"],
    narrowed: Narrowed,
    batchEvents?: Distribution
  ) {
    super(channel, join, true, narrowed, batchEvents)
    this.filter = narrowed.filter
  }
}

export class FilteredViews<E> {
  readonly #byLabel = new Map<string, FilteredView<E>>()
  readonly #index = new FilterIndex<FilteredView<E>>()
  /** Those whose last batch ends in the middle of a tick: the outbox's cursor of that batch. */
  readonly #midway = new Map<FilteredView<E>, string>()
  /** Decodes for all of them. */
  readonly #decoder: View

  constructor(channel: Channel.Any) {
    this.#decoder = new View(channel, () => Effect.die(new Error("it is not joined")), true)
  }

  get size(): number {
    return this.#byLabel.size
  }

  get(label: string): FilteredView<E> | undefined {
    return this.#byLabel.get(label)
  }

  add(view: FilteredView<E>): void {
    this.#byLabel.set(view.label!, view)
    this.#index.add(view)
  }

  remove(view: FilteredView<E>): void {
    this.#byLabel.delete(view.label!)
    this.#index.remove(view)
    this.#midway.delete(view)
  }

  /** Hands an item to the views. Adds its gaps to `missing`. */
  receive(item: Outbox.Item, missing: Array<Missing>): void {
    if (item._tag === "Batch") return this.#receiveBatch(item, missing)
    if (item._tag === "Position" && item.ends !== undefined) return this.#endTick(item)
    for (const view of this.#index.all) view.hand(batchWithout(view, item))
    this.#midway.clear()
  }

  /** The rest of a tick had nothing for a view that has a part of it: the view receives its end. */
  #endTick({ cursor, tick }: Pick<Outbox.Item, "cursor" | "tick">): void {
    for (const [view, ends] of this.#midway) {
      view.hand(batchWithout(view, { _tag: "Position", cursor, tick, ends }))
    }
    this.#midway.clear()
  }

  #receiveBatch(item: Outbox.DurableBatch, missing: Array<Missing>): void {
    const touched = new Map<FilteredView<E>, ItemBatches<E>>()
    for (const [index, event] of item.events.entries()) {
      const judged = new Judged(event, this.#decoder)
      let gap: Missing | undefined
      const views = judged.match === undefined ? this.#index.all : this.#index.touched(judged.match)
      for (const view of views) {
        const one = judged.of(view.filter)
        if (one === undefined) continue
        let batches = touched.get(view)
        if (batches === undefined) touched.set(view, (batches = new ItemBatches(view, item)))
        batches.add(index, one)
        if (one instanceof Missing) gap = one
      }
      if (gap !== undefined) missing.push(gap)
    }
    for (const [view, batches] of touched) {
      for (const batch of batches.end()) view.hand(batch)
      if (item.isMidway) this.#midway.set(view, item.cursor)
      else this.#midway.delete(view)
    }
    if (!item.isMidway) this.#endTick(item)
  }
}

/** The batches of an item of a replay for one view with a filter. Adds its gaps to `missing`. */
export const batchesOfFiltered = <E>(
  view: FilteredView<E>,
  item: Outbox.DurableBatch,
  missing: Array<Missing>
): ReadonlyArray<Batch> => {
  const batches = new ItemBatches(view, item)
  for (const [index, event] of item.events.entries()) {
    const one = new Judged(event, view).of(view.filter)
    if (one === undefined) continue
    batches.add(index, one)
    if (one instanceof Missing) missing.push(one)
  }
  return batches.end()
}
