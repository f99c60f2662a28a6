/**
 * The rings of a node: the last entries of each channel, bounded by count, age and bytes.
 *
 * The bytes are counted over all rings of one `Budget`. At its limit the rings that hold most forget first:
 * a channel that fills the budget loses its own entries, and the others keep theirs. A sweep removes
 * entries that are too old at most 5 s late, and a ring never returns them.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"

export interface RingLimits {
  /** Events per channel. */
  readonly events: number
  /** Age in milliseconds. */
  readonly maxAge: number
  /**
   * Bytes over all channels, about as the heap holds them. A text counts one byte for each UTF-16 unit; V8
   * takes two as soon as one unit is beyond U+00FF. Each event counts `eventBytes` more.
   */
  readonly bytes: number
}

/** What an event takes beside its text, measured at 100 bytes on Node 24. */
export const eventBytes = 128

/** Milliseconds between two sweeps. */
const sweepEvery = 5000

/** The share freed at once at the limit, because finding the largest rings reads all of them. */
const freedShare = 1 / 16

/** A ring as its budget sees it. */
interface Holder {
  readonly bytes: number
  expire(now: number): void
  shrinkTo(bytes: number): void
}

/** What all rings of a node hold together. */
export class Budget {
  readonly limits: RingLimits
  /** The rings that hold something. */
  readonly holders = new Set<Holder>()
  used = 0

  constructor(limits: RingLimits) {
    this.limits = limits
  }

  /** Removes entries that are too old at `now`, in milliseconds since 1970. */
  sweep(now: number): void {
    for (const holder of this.holders) holder.expire(now)
  }

  /** Shrinks the largest rings to one level, at which all rings fit. */
  makeRoom(): void {
    let excess = this.used - this.limits.bytes * (1 - freedShare)
    const largest = [...this.holders].toSorted((one, other) => other.bytes - one.bytes)
    let level = 0
    let count = 0
    for (const { bytes } of largest) {
      // The larger rings give up what they hold beyond this one, then the rest in equal parts.
      if (count > 0 && (level - bytes) * count >= excess) break
      excess -= count === 0 ? 0 : (level - bytes) * count
      level = bytes
      count++
    }
    level -= excess / count
    for (const holder of largest.slice(0, count)) holder.shrinkTo(level)
  }
}

/** Sweeps a budget until the scope closes. */
export const sweeping = (budget: Budget): Effect.Effect<void, never, Scope.Scope> =>
  Effect.sleep(sweepEvery).pipe(
    Effect.andThen(Clock.currentTimeMillis),
    Effect.map((now) => budget.sweep(now)),
    Effect.forever,
    Effect.forkScoped,
    Effect.asVoid
  )

/** The weight of an entry. */
interface Weights<in Entry> {
  readonly eventsOf: (entry: Entry) => number
  readonly bytesOf: (entry: Entry) => number
}

/** The last entries of one channel, each with the time of its receipt in milliseconds since 1970. */
export class Ring<Entry extends { readonly at: number }> implements Holder {
  readonly #budget: Budget
  readonly #weights: Weights<Entry>
  #entries: Array<Entry | undefined> = []
  /** Entries before this index are forgotten; the array is cut when they are many. */
  #start = 0
  #events = 0
  #bytes = 0

  constructor(budget: Budget, weights: Weights<Entry>) {
    this.#budget = budget
    this.#weights = weights
  }

  get bytes(): number {
    return this.#bytes
  }

  /** Oldest first. */
  get entries(): ReadonlyArray<Entry> {
    // Entries from `#start` on are not `undefined`.
    return this.#entries.slice(this.#start) as ReadonlyArray<Entry>
  }

  push(entry: Entry): void {
    const budget = this.#budget
    const bytes = this.#weights.bytesOf(entry)
    if (this.#bytes === 0) budget.holders.add(this)
    this.#entries.push(entry)
    this.#events += this.#weights.eventsOf(entry)
    this.#bytes += bytes
    budget.used += bytes
    while (this.#events > budget.limits.events) this.#forgetOldest()
    if (budget.used > budget.limits.bytes) budget.makeRoom()
  }

  expire(now: number): void {
    const { maxAge } = this.#budget.limits
    while (this.#start < this.#entries.length && now - this.#entries[this.#start]!.at > maxAge) {
      this.#forgetOldest()
    }
  }

  /** Forgets the oldest entries until at most `bytes` are held. */
  shrinkTo(bytes: number): void {
    while (this.#bytes > 0 && this.#bytes > bytes) this.#forgetOldest()
  }

  clear(): void {
    this.shrinkTo(0)
  }

  #forgetOldest(): void {
    const oldest = this.#entries[this.#start]!
    const bytes = this.#weights.bytesOf(oldest)
    this.#events -= this.#weights.eventsOf(oldest)
    this.#bytes -= bytes
    this.#budget.used -= bytes
    // Frees the text now; the array is cut later.
    this.#entries[this.#start++] = undefined
    if (this.#bytes === 0) {
      this.#budget.holders.delete(this)
      this.#entries = []
      this.#start = 0
    } else if (this.#start > 32 && this.#start * 2 > this.#entries.length) {
      // Amortised: each cut moves at most as many entries as were forgotten.
      this.#entries = this.#entries.slice(this.#start)
      this.#start = 0
    }
  }
}
