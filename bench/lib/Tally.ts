/**
 * Counts the notifications of a listener, and fails when some are missing.
 */
import { silenceMillis } from "./silence.ts"

export class Tally {
  #count = 0
  #failure: Error | undefined

  take(some: number): void {
    this.#count += some
  }

  fail(error: Error): void {
    this.#failure ??= error
  }

  /**
   * Completes when `wanted` more have arrived, checked each millisecond: both processes are idle
   * while they wait.
   */
  async arrive(wanted: number): Promise<void> {
    const begin = this.#count
    let seen = begin
    const done = Promise.withResolvers<void>()
    const end = () => {
      const came = this.#count - begin
      if (this.#failure !== undefined) done.reject(this.#failure)
      else if (came === wanted) done.resolve()
      else done.reject(new Error(`${came} of ${wanted} notifications came`))
    }
    const silence = setTimeout(end, silenceMillis)
    const poll = setInterval(() => {
      if (this.#failure !== undefined || this.#count - begin >= wanted) return end()
      if (this.#count !== seen) silence.refresh()
      seen = this.#count
    }, 1)
    try {
      await done.promise
    } finally {
      clearTimeout(silence)
      clearInterval(poll)
    }
  }
}
