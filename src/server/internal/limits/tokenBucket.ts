/**
 * A token bucket: a rate per second on average, and a burst at once. It has two numbers and no timer,
 * because every session has several.
 */
import type { Rate } from "../options.ts"

/** Rounding errors of many small additions must not cost a whole token. */
const almostOne = 1 - 1e-9

export class Bucket {
  #tokens: number
  #at: number

  constructor(rate: Rate, now: number) {
    this.#tokens = rate.burst
    this.#at = now
  }

  /** 0 if a token is available at `now` (milliseconds), else the milliseconds until one is. */
  wait(rate: Rate, now: number): number {
    return this.#until(almostOne, rate, now)
  }

  /** 0 if the bucket is not overdrawn, else the milliseconds until it is not. */
  debt(rate: Rate, now: number): number {
    return this.#until(0, rate, now)
  }

  #until(tokens: number, rate: Rate, now: number): number {
    // A clock that was set back adds and removes no tokens.
    const elapsed = Math.max(0, now - this.#at)
    this.#tokens = Math.min(rate.burst, this.#tokens + (elapsed * rate.perSecond) / 1000)
    this.#at = now
    const missing = tokens - this.#tokens
    return missing <= 0 ? 0 : Math.ceil((missing * 1000) / rate.perSecond)
  }

  /** Takes one token and returns 0, or returns the milliseconds until there is one. */
  take(rate: Rate, now: number): number {
    const wait = this.wait(rate, now)
    if (wait === 0) this.#tokens--
    return wait
  }

  /** Takes tokens that may not be available yet. Later callers wait for them. */
  spend(tokens: number): void {
    this.#tokens -= tokens
  }

  /** Whether the bucket is full, so that a new one would be the same. */
  isFull(rate: Rate, now: number): boolean {
    return this.#tokens + ((now - this.#at) * rate.perSecond) / 1000 >= rate.burst
  }
}

/** A bucket that all sessions of a door share. Without a rate it never waits. */
export class SharedBucket {
  readonly #rate: Rate | undefined
  readonly #bucket: Bucket
  readonly #now: () => number

  /** `now`: the time, in milliseconds since 1970. */
  constructor(rate: Rate | undefined, now: () => number) {
    this.#rate = rate
    this.#now = now
    this.#bucket = new Bucket(rate ?? { perSecond: 1, burst: 1 }, now())
  }

  /** 0 if a token is available, else the milliseconds until one is. */
  get wait(): number {
    return this.#rate === undefined ? 0 : this.#bucket.wait(this.#rate, this.#now())
  }

  /**
   * Takes one token, and returns the milliseconds until it is available. Takes none if that is more
   * than `patience`, in milliseconds.
   */
  take(patience = 0): number {
    if (this.#rate === undefined) return 0
    const { wait } = this
    if (wait <= patience) this.#bucket.spend(1)
    return wait
  }
}
