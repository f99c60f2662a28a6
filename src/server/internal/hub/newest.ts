/**
 * The newest value of each key: what waits for a subscriber of a volatile channel that is busy.
 *
 * A newer value takes the place of the older one of its key, and moves to the end. At a limit the oldest
 * key is dropped.
 */

export interface NewestLimits {
  readonly keys: number
  /** Roughly the bytes of all keys and values in memory. */
  readonly bytes: number
}

export class Newest<A extends { readonly bytes: number }> {
  readonly #limits: NewestLimits
  readonly #values = new Map<string, A>()
  #bytes = 0

  constructor(limits: NewestLimits) {
    this.#limits = limits
  }

  /** Roughly the bytes of all keys and values. */
  get bytes(): number {
    return this.#bytes
  }

  get size(): number {
    return this.#values.size
  }

  /** Returns how many keys were dropped for it. */
  put(key: string, value: A): number {
    this.delete(key)
    this.#values.set(key, value)
    this.#bytes += key.length + value.bytes
    const { bytes, keys } = this.#limits
    let dropped = 0
    for (const oldest of this.#values.keys()) {
      if (this.#values.size <= keys && this.#bytes <= bytes) break
      this.delete(oldest)
      dropped++
    }
    return dropped
  }

  delete(key: string): void {
    const value = this.#values.get(key)
    if (value === undefined) return
    this.#values.delete(key)
    this.#bytes -= key.length + value.bytes
  }

  /** Oldest first. The loop may delete what it meets. */
  entries(): Iterable<readonly [key: string, value: A]> {
    return this.#values.entries()
  }
}
