/**
 * The counters that one sender has used: each is accepted once, in almost any order.
 */

/** How far a counter may be behind the highest. */
const size = 1024

export class CounterWindow {
  /** At the place of a counter, the last one that was accepted there. */
  readonly #accepted = new Float64Array(size).fill(-1)
  #highest = -1

  /** Whether the counter is new. One that is too far behind the highest counts as used. */
  accept(counter: number): boolean {
    if (!Number.isSafeInteger(counter) || counter < 0 || counter <= this.#highest - size) {
      return false
    }
    if (this.#accepted[counter % size] === counter) return false
    this.#accepted[counter % size] = counter
    this.#highest = Math.max(this.#highest, counter)
    return true
  }
}
