/**
 * The last batches of the durable channels that a node follows, so that who was away for a moment is
 * not read from the database again.
 *
 * A subscriber stands behind a batch: its cursor is that batch's, to the letter. Whoever stands
 * elsewhere, or is away for longer than this remembers, is replayed from the table.
 */
/** What is remembered of one channel, and for how long. */
const limits = { events: 256, millis: 120_000 }

/** What all channels of a node remember together, in UTF-16 units of payload. */
const maxText = 64 * 1024 * 1024

/** What all channels hold. */
export interface Held {
  text: number
}

/** What is needed of a batch. */
interface Remembered {
  readonly cursor: string
  readonly events: ReadonlyArray<{ readonly text: string }>
}

interface Entry<Batch> {
  readonly batch: Batch
  /** When it was handed out, in milliseconds since 1970. */
  readonly at: number
  readonly text: number
}

export class Recent<Batch extends Remembered> {
  readonly #held: Held
  #entries: Array<Entry<Batch>> = []
  #events = 0

  constructor(held: Held) {
    this.#held = held
  }

  push(batch: Batch, now: number): void {
    const text = batch.events.reduce((sum, event) => sum + event.text.length, 0)
    this.#entries.push({ batch, at: now, text })
    this.#events += batch.events.length
    this.#held.text += text
    // A channel that would exceed what all may hold forgets its own.
    while (this.#events > limits.events || (this.#held.text > maxText && this.#events > 0)) {
      this.#forgetOldest()
    }
    this.#expire(now)
  }

  /** The batches behind the one with this cursor; `undefined` when it is not remembered. */
  after(cursor: string, now: number): ReadonlyArray<Batch> | undefined {
    this.#expire(now)
    const index = this.#entries.findLastIndex(({ batch }) => batch.cursor === cursor)
    return index < 0 ? undefined : this.#entries.slice(index + 1).map(({ batch }) => batch)
  }

  clear(): void {
    while (this.#entries.length > 0) this.#forgetOldest()
  }

  #expire(now: number): void {
    while (this.#entries.length > 0 && now - this.#entries[0]!.at > limits.millis) {
      this.#forgetOldest()
    }
  }

  #forgetOldest(): void {
    const oldest = this.#entries.shift()!
    this.#events -= oldest.batch.events.length
    this.#held.text -= oldest.text
  }
}
