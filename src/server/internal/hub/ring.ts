/**
 * The short memory of a live channel: its last notifications, found by their sequence.
 */
import { type Budget, eventBytes, Memory } from "../memory.ts"

/** One notification with its place in the channel. */
export interface Entry {
  readonly seq: number
  /** When the node received it, in milliseconds since 1970. */
  readonly at: number
  readonly text: string
}

const weights = {
  eventsOf: () => 1,
  bytesOf: ({ text }: Entry) => text.length + eventBytes
}

export class Ring {
  readonly #memory: Memory<Entry>

  constructor(budget: Budget) {
    this.#memory = new Memory(budget, weights)
  }

  push(entry: Entry): void {
    this.#memory.push(entry)
  }

  /**
   * Everything after `seq`, oldest first, or `undefined` when some of it is forgotten.
   * `last` is the sequence of the newest notification of the channel.
   */
  after(seq: number, last: number, now: number): ReadonlyArray<Entry> | undefined {
    this.#memory.expire(now)
    if (seq === last) return []
    const { entries } = this.#memory
    const oldest = entries[0]
    if (seq > last || oldest === undefined || oldest.seq > seq + 1) return undefined
    return entries.slice(seq + 1 - oldest.seq)
  }

  clear(): void {
    this.#memory.clear()
  }
}
