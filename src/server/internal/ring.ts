/**
 * The short memory of a live channel: its last notifications, bounded by count, age and bytes.
 *
 * The bytes are counted over all channels of a node in one `Budget`. A channel that would exceed it
 * forgets its own oldest first, so a busy channel pays for itself.
 */

export interface Limits {
  /** Notifications per channel. */
  readonly events: number
  /** Age in milliseconds. */
  readonly maxAge: number
  /** UTF-16 code units of text over all channels; close enough to bytes for JSON. */
  readonly bytes: number
}

/** One notification with its place in the channel. */
export interface Entry {
  readonly seq: number
  /** When the node received it, in milliseconds since 1970. */
  readonly at: number
  readonly text: string
}

/** What all rings of a node hold together. */
export class Budget {
  readonly limits: Limits
  used = 0
  constructor(limits: Limits) {
    this.limits = limits
  }
}

export class Ring {
  readonly #budget: Budget
  #entries: Array<Entry> = []
  /** Entries before this index are forgotten; cut off once they are many. */
  #start = 0

  constructor(budget: Budget) {
    this.#budget = budget
  }

  push(entry: Entry): void {
    const { limits } = this.#budget
    this.#entries.push(entry)
    this.#budget.used += entry.text.length
    while (
      this.#entries.length - this.#start > limits.events ||
      (this.#budget.used > limits.bytes && this.#entries.length > this.#start)
    ) {
      this.#forgetOldest()
    }
    this.#expire(entry.at)
  }

  /**
   * Everything after `seq`, oldest first, or `undefined` when some of it is forgotten.
   * `last` is the sequence of the newest notification of the channel.
   */
  after(seq: number, last: number, now: number): ReadonlyArray<Entry> | undefined {
    this.#expire(now)
    if (seq === last) return []
    const oldest = this.#entries[this.#start]
    if (seq > last || oldest === undefined || oldest.seq > seq + 1) return undefined
    return this.#entries.slice(this.#start + (seq + 1 - oldest.seq))
  }

  clear(): void {
    while (this.#entries.length > this.#start) this.#forgetOldest()
  }

  #expire(now: number): void {
    const { maxAge } = this.#budget.limits
    while (this.#start < this.#entries.length && now - this.#entries[this.#start]!.at > maxAge) {
      this.#forgetOldest()
    }
  }

  #forgetOldest(): void {
    this.#budget.used -= this.#entries[this.#start]!.text.length
    this.#start++
    // Amortised: each entry is moved at most once per as many forgotten.
    if (this.#start > 32 && this.#start * 2 > this.#entries.length) {
      this.#entries = this.#entries.slice(this.#start)
      this.#start = 0
    }
  }
}
