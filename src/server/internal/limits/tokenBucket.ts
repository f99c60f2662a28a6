/**
 * A token bucket: so many per second on average, so many at once. Two numbers per bucket and no timer,
 * because every session has several.
 */
import type { Rate } from "../options.ts"

/** What many small additions lose must not cost a whole token. */
const almostOne = 1 - 1e-9

export class Bucket {
  #tokens: number
  #at: number

  constructor(rate: Rate, now: number) {
    this.#tokens = rate.burst
    this.#at = now
  }

  /** 0 when a token is there at `now` milliseconds, else the milliseconds until one is. */
  wait(rate: Rate, now: number): number {
    return this.#until(almostOne, rate, now)
  }

  /** 0 when no more was spent than was there, else the milliseconds until that is so. */
  debt(rate: Rate, now: number): number {
    return this.#until(0, rate, now)
  }

  #until(tokens: number, rate: Rate, now: number): number {
    // A clock that went back gives nothing and takes nothing.
    const elapsed = Math.max(0, now - this.#at)
    this.#tokens = Math.min(rate.burst, this.#tokens + (elapsed * rate.perSecond) / 1000)
    this.#at = now
    const missing = tokens - this.#tokens
    return missing <= 0 ? 0 : Math.ceil((missing * 1000) / rate.perSecond)
  }

  /** Takes one token; returns 0, or the milliseconds until there is one. */
  take(rate: Rate, now: number): number {
    const wait = this.wait(rate, now)
    if (wait === 0) this.#tokens--
    return wait
  }

  /** Takes tokens that may not be there yet: whoever comes next waits for them. */
  spend(tokens: number): void {
    this.#tokens -= tokens
  }

  /** Whether nothing was taken for so long that a new bucket would be the same. */
  isFull(rate: Rate, now: number): boolean {
    return this.#tokens + ((now - this.#at) * rate.perSecond) / 1000 >= rate.burst
  }
}

/** A bucket of all sessions of a door. Without a rate it has no bottom. */
export class SharedBucket {
  readonly #rate: Rate | undefined
  readonly #bucket: Bucket
  readonly #now: () => number

  /** `now`: milliseconds since 1970. */
  constructor(rate: Rate | undefined, now: () => number) {
    this.#rate = rate
    this.#now = now
    this.#bucket = new Bucket(rate ?? { perSecond: 1, burst: 1 }, now())
  }

  /** 0 when a token is there, else the milliseconds until one is. */
  get wait(): number {
    return this.#rate === undefined ? 0 : this.#bucket.wait(this.#rate, this.#now())
  }

  /**
   * Takes one token; returns the milliseconds until it is there. When that is more than the caller waits,
   * none is taken.
   */
  take(patience = 0): number {
    if (this.#rate === undefined) return 0
    const { wait } = this
    if (wait <= patience) this.#bucket.spend(1)
    return wait
  }
}
