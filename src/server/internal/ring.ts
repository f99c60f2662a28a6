/**
 * The rings of a node: of each channel the last entries, bounded by count, age and bytes.
 *
 * The bytes are counted over all rings of one `Budget`. At its limit those that hold most forget
 * first, whoever pushes: a channel that fills the budget pays for itself, and the others keep theirs.
 * What is too old is forgotten by the clock, at most 5 s late, and never given.
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
   * Bytes over all channels: about what they take of the heap, where a text counts one for each of its
   * UTF-16 units (V8 takes two as soon as one of them is beyond U+00FF), and each event `eventBytes`.
   */
  readonly bytes: number
}

/** What an event takes beside its text, measured at 100 bytes on Node 24. */
export const eventBytes = 128

/** How often what is too old is looked for, in milliseconds. */
const sweepEvery = 5000

/** At the limit this share of it is freed at once, because to find who holds most takes a look at all. */
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
  /** Those that hold something. */
  readonly holders = new Set<Holder>()
  used = 0

  constructor(limits: RingLimits) {
    this.limits = limits
  }

  /** Forgets what is too old at `now`, in milliseconds since 1970. */
  sweep(now: number): void {
    for (const holder of this.holders) holder.expire(now)
  }

  /** Brings those that hold most down to one level, at which everybody fits. */
  makeRoom(): void {
    let excess = this.used - this.limits.bytes * (1 - freedShare)
    const largest = [...this.holders].toSorted((one, other) => other.bytes - one.bytes)
    let level = 0
    let count = 0
    for (const { bytes } of largest) {
      // Those before give what they hold beyond this one, and the rest in equal parts.
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

/** What an entry counts for. */
interface Weights<in Entry> {
  readonly eventsOf: (entry: Entry) => number
  readonly bytesOf: (entry: Entry) => number
}

/** The last entries of one channel, each with the time of its receipt in milliseconds since 1970. */
export class Ring<Entry extends { readonly at: number }> implements Holder {
  readonly #budget: Budget
  readonly #weights: Weights<Entry>
  #entries: Array<Entry | undefined> = []
  /** Entries before this index are forgotten; cut off once they are many. */
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
    // What is not forgotten is there.
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

  /** Holds at most so many bytes after this. */
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
    // Its text goes now, not when it is cut off.
    this.#entries[this.#start++] = undefined
    if (this.#bytes === 0) {
      this.#budget.holders.delete(this)
      this.#entries = []
      this.#start = 0
    } else if (this.#start > 32 && this.#start * 2 > this.#entries.length) {
      // Amortised: each entry is moved at most once per as many forgotten.
      this.#entries = this.#entries.slice(this.#start)
      this.#start = 0
    }
  }
}
