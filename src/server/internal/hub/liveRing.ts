/**
 * The ring of a live channel: its last notifications, found by sequence number.
 */
import { type Budget, eventBytes, Ring } from "../ring.ts"

/** One notification with its sequence number in the channel. */
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

  /** The entries that are not expired, oldest first. */
  remembered(now: number): ReadonlyArray<LiveEntry> {
    this.expire(now)
    return this.entries
  }

  /**
   * The entries after `seq`, oldest first; `undefined` when the ring has forgotten some of them.
   * `last`: the sequence number of the channel's newest notification.
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
