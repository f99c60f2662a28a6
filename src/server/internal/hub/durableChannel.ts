/**
 * One durable channel that a node follows: turns the items of the outbox into batches of its views.
 *
 * The outbox orders, remembers and resumes; this keeps nothing. Views without a filter have every event;
 * `FilteredViews` has the others.
 */
import * as Effect from "effect/Effect"
import type * as Channel from "../../../Channel.ts"
import type { OutboxReader } from "../../OutboxReader.ts"
import type * as Outbox from "../../OutboxReader.ts"
import type { Lease } from "../outbox/sharedReads.ts"
import type { Batch, Step } from "./batch.ts"
import type { JoinError } from "../outbox/catchUp.ts"
import { TooManyFilters } from "./errors.ts"
import { batchesOfFiltered, FilteredView, FilteredViews } from "./filteredViews.ts"
import type { Missing } from "./invalidMessage.ts"
import { batchesOfItem } from "./itemBatches.ts"
import type { Told } from "./gapCounter.ts"
import type { Distribution } from "../tally.ts"
import { type View, type ViewJoin, Views } from "./view.ts"
import { type Narrowed, withoutDigest } from "./viewCursor.ts"

export class DurableChannel extends Views<JoinError> {
  readonly #reader: OutboxReader["Service"]
  readonly #maxFilters: number
  /** The views with a filter, by codec. */
  #filtered: Map<object, FilteredViews<JoinError>> | undefined

  /** `maxFilters`: the most different filters at once. */
  constructor(
    name: string,
    reader: OutboxReader["Service"],
    told: Told,
    maxFilters: number,
    batchEvents?: Distribution
  ) {
    super(name, told, batchEvents)
    this.#reader = reader
    this.#maxFilters = maxFilters
  }

  protected override get resumes(): boolean {
    return true
  }

  /** Whether a socket is subscribed. */
  get subscribed(): boolean {
    if (this.#filtered !== undefined) return true
    for (let view = this.first; view !== undefined; view = view.next) {
      if (view.subscribed) return true
    }
    return false
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
      if (this.#filtered === undefined) continue
      for (const views of this.#filtered.values()) views.receive(item, missing)
    }
    return missing
  }

  override refuses(channel: Channel.Any, { label }: Narrowed): TooManyFilters | undefined {
    if (this.#filtered?.get(channel.codec)?.get(label) !== undefined) return undefined
    let filters = 0
    for (const { size } of this.#filtered?.values() ?? []) filters += size
    return filters < this.#maxFilters
      ? undefined
      : new TooManyFilters({ channel: this.name, limit: this.#maxFilters })
  }

  override view(channel: Channel.Any, narrowed?: Narrowed): View<JoinError> {
    if (narrowed === undefined) return super.view(channel)
    this.#filtered ??= new Map()
    let views = this.#filtered.get(channel.codec)
    if (views === undefined) this.#filtered.set(channel.codec, (views = new FilteredViews(channel)))
    let view = views.get(narrowed.label)
    if (view === undefined) {
      const added: FilteredView<JoinError> = new FilteredView(
        channel,
        (from, part, lease) => this.join(added, from, part, lease),
        narrowed,
        this.batchEvents
      )
      views.add((view = added))
    }
    view.users++
    return view
  }

  override release(view: View<JoinError>): void {
    if (!(view instanceof FilteredView)) return super.release(view)
    if (--view.users > 0) return
    const { codec } = view.channel
    const views = this.#filtered?.get(codec)
    views?.remove(view)
    if (views?.size === 0) this.#filtered!.delete(codec)
    if (this.#filtered?.size === 0) this.#filtered = undefined
  }

  protected override join(
    view: View<JoinError>,
    from: string | undefined,
    part: Outbox.Part | undefined,
    lease: Lease | undefined
  ): Effect.Effect<ViewJoin, JoinError> {
    const { narrowed } = view
    const cursor = narrowed && from !== undefined ? withoutDigest(from, narrowed.digest) : from
    const joined = Effect.map(
      this.#reader.join(this.name, cursor, undefined, part, lease, narrowed?.filter),
      (join): ViewJoin => ({
        ...join,
        cursor: view.cursorOf(join.cursor),
        end: join.end && view.cursorOf(join.end),
        replay: join.replay.map((batch) => this.#step(view, batch))
      })
    )
    // A cursor that was made for another filter.
    return from !== undefined && cursor === undefined
      ? Effect.map(joined, (join): ViewJoin => ({ ...join, state: "reset" }))
      : joined
  }

  /** One step for all joins that meet this batch. */
  #step(view: View<JoinError>, batch: Outbox.DurableBatch): Step {
    const known = view.replayed.get(batch)
    if (known !== undefined) return known
    const step = new Replayed(
      view,
      batch,
      (missing) =>
        view instanceof FilteredView
          ? batchesOfFiltered(view, batch, missing)
          : batchesOfItem(view, batch, true, missing),
      this.told
    )
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

  constructor(
    view: View<JoinError>,
    { channel, cursor, events, from, tick }: Outbox.DurableBatch,
    /** Makes the batches, and adds their gaps to a list. */
    batchesOf: (missing: Array<Missing>) => ReadonlyArray<Batch>,
    told: Told
  ) {
    this.from = view.cursorOf(from)
    this.cursor = view.cursorOf(cursor)
    const bytes = events.reduce((sum, { text }) => sum + text.length, 0)
    this.size = { events: events.length, bytes }
    // The batches of the first reader, while they are in memory.
    let made: { readonly deref: () => ReadonlyArray<Batch> | undefined } | undefined
    this.open = Effect.suspend(() => {
      const known = made?.deref()
      if (known !== undefined) return Effect.succeed(known)
      const missing: Array<Missing> = []
      const batches = batchesOf(missing).map((one) => one.seal())
      // A batch with tick 0 was read for this replay and goes with it. Others stay in the node's ring,
      // which must not grow.
      made = tick === 0 ? { deref: () => batches } : new WeakRef(batches)
      return Effect.as(told.tell(channel, missing), batches)
    })
  }
}
