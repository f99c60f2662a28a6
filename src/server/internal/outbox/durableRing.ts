/**
 * The ring of a durable channel: its last batches, found by their cursors, so that a subscriber that was
 * away for a moment is not read from the database again.
 *
 * A subscriber stands behind a batch: its cursor is that batch's, to the letter. Whoever stands
 * elsewhere, or is away for longer than this remembers, is replayed from the table. The horizon is not
 * asked: what followed the cursor is all here, whatever the table has pruned meanwhile.
 */
import { type Budget, eventBytes, Ring } from "../ring.ts"

/** What a batch takes beside its events and cursors, measured at 250 bytes on Node 24. */
const batchBytes = 256

/** What is needed of a batch. */
interface RingBatch {
  readonly from: string
  readonly cursor: string
  readonly events: ReadonlyArray<{ readonly text: string }>
}

interface DurableEntry<Batch> {
  readonly batch: Batch
  /** When it was handed out, in milliseconds since 1970. */
  readonly at: number
  readonly bytes: number
}

const weights = {
  eventsOf: ({ batch }: DurableEntry<RingBatch>) => batch.events.length,
  bytesOf: ({ bytes }: DurableEntry<RingBatch>) => bytes
}

export class DurableRing<Batch extends RingBatch> {
  readonly #ring: Ring<DurableEntry<Batch>>

  constructor(budget: Budget) {
    this.#ring = new Ring<DurableEntry<Batch>>(budget, weights)
  }

  push(batch: Batch, now: number): void {
    let bytes = batchBytes + batch.from.length + batch.cursor.length
    for (const { text } of batch.events) bytes += text.length + eventBytes
    this.#ring.push({ batch, at: now, bytes })
  }

  /** The batches behind the one with this cursor; `undefined` when it is not remembered. */
  after(cursor: string, now: number): ReadonlyArray<Batch> | undefined {
    this.#ring.expire(now)
    const { entries } = this.#ring
    const index = entries.findLastIndex(({ batch }) => batch.cursor === cursor)
    return index < 0 ? undefined : entries.slice(index + 1).map(({ batch }) => batch)
  }

  /** Everything that is remembered, in order. */
  get all(): ReadonlyArray<Batch> {
    return this.#ring.entries.map(({ batch }) => batch)
  }

  clear(): void {
    this.#ring.clear()
  }
}
