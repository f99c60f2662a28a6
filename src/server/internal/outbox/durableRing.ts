/**
 * The ring of a durable channel: its last batches, found by their cursors, so that a subscriber that was
 * away for a moment is not read from the database again.
 *
 * A subscriber's cursor must equal the cursor of a batch, character for character. A subscriber with any
 * other cursor, or one older than the ring, gets its replay from the table. The ring does not read the
 * horizon: it holds everything after the cursor, whatever the table has pruned meanwhile.
 */
import { type Budget, eventBytes, Ring } from "../ring.ts"

/** Bytes of a batch beside its events and cursors, measured at 250 on Node 24. */
const batchBytes = 256

/** The fields of a batch that the ring uses. */
interface RingBatch {
  readonly from: string
  readonly cursor: string
  readonly events: ReadonlyArray<{
    readonly text: string
    readonly match?: string | undefined
  }>
}

interface DurableEntry<Batch> {
  readonly batch: Batch
  /** When the reader handed it out, in milliseconds since 1970. */
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
    for (const { match, text } of batch.events) {
      bytes += text.length + (match?.length ?? 0) + eventBytes
    }
    this.#ring.push({ batch, at: now, bytes })
  }

  /** The batches after the one with this cursor; `undefined` when the ring does not hold it. */
  after(cursor: string, now: number): ReadonlyArray<Batch> | undefined {
    this.#ring.expire(now)
    const { entries } = this.#ring
    const index = entries.findLastIndex(({ batch }) => batch.cursor === cursor)
    return index < 0 ? undefined : entries.slice(index + 1).map(({ batch }) => batch)
  }

  /** All batches held, oldest first. */
  get all(): ReadonlyArray<Batch> {
    return this.#ring.entries.map(({ batch }) => batch)
  }

  clear(): void {
    this.#ring.clear()
  }
}
