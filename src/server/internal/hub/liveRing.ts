/**
 * The ring of a live channel: its last notifications, found by their sequence.
 */
import { type Budget, eventBytes, Ring } from "../ring.ts"

/** One notification with its place in the channel. */
export interface LiveEntry {
  readonly seq: number
  /** When the node received it, in milliseconds since 1970. */
  readonly at: number
  readonly text: string
}

const weights = {
  eventsOf: () => 1,
  bytesOf: ({ text }: LiveEntry) => text.length + eventBytes
}

export class LiveRing extends Ring<LiveEntry> {
  constructor(budget: Budget) {
    super(budget, weights)
  }

  /**
   * Everything after `seq`, oldest first, or `undefined` when some of it is forgotten.
   * `last` is the sequence of the newest notification of the channel.
   */
  after(seq: number, last: number, now: number): ReadonlyArray<LiveEntry> | undefined {
    this.expire(now)
    if (seq === last) return []
    const { entries } = this
    const oldest = entries[0]
    if (seq > last || oldest === undefined || oldest.seq > seq + 1) return undefined
    return entries.slice(seq + 1 - oldest.seq)
  }
}
