/** When a state may be read because of a gap: a table that causes gaps would otherwise be read without end. */

/** Times between two states that are read because of a gap, in milliseconds. */
const leastPause = 5000
const mostPause = 60_000

export class StatePace {
  #next = -Infinity
  /** When the gaps count as over. */
  #calm = -Infinity
  #pause = leastPause

  /** Milliseconds until a state may be read because of a gap. If 0, it counts as read now. */
  pass(now: number): number {
    if (now < this.#next) return this.#next - now
    this.#pause = now < this.#calm ? Math.min(this.#pause * 2, mostPause) : leastPause
    this.#next = now + this.#pause
    this.#calm = this.#next + this.#pause
    return 0
  }
}
