/**
 * A token bucket: so many per second on average, so many at once. Two numbers per bucket and no timer,
 * because every session has several.
 */
export interface Rate {
  /** Tokens that come back per second. */
  readonly perSecond: number
  /** The most that are there at once. */
  readonly burst: number
}

export class Bucket {
  #tokens: number
  #at: number

  constructor(rate: Rate, now: number) {
    this.#tokens = rate.burst
    this.#at = now
  }

  /** Takes one token at `now` milliseconds; returns 0, or the milliseconds until there is one. */
  take(rate: Rate, now: number): number {
    // A clock that went back gives nothing and takes nothing.
    const elapsed = Math.max(0, now - this.#at)
    this.#tokens = Math.min(rate.burst, this.#tokens + (elapsed * rate.perSecond) / 1000)
    this.#at = now
    if (this.#tokens >= 1) {
      this.#tokens--
      return 0
    }
    return Math.ceil(((1 - this.#tokens) * 1000) / rate.perSecond)
  }

  /** Whether nothing was taken for so long that a new bucket would be the same. */
  isFull(rate: Rate, now: number): boolean {
    return this.#tokens + ((now - this.#at) * rate.perSecond) / 1000 >= rate.burst
  }
}
