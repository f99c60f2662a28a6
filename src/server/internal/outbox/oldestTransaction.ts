/**
 * How long the oldest transaction that writes is open, as the looks of one reader see it.
 *
 * In: what each look says of the transactions in progress. Out: an age. It needs no rights on the sessions of
 * others, and is too short by the time until the first look that saw the transaction.
 */
import type { Looked } from "./lookSchedule.ts"

export class OldestTransaction {
  readonly #seconds: () => number
  #oldest: { readonly number: bigint; readonly since: number } | undefined

  /** `seconds`: the time of the monotonic clock. */
  constructor(seconds: () => number) {
    this.#seconds = seconds
  }

  /** Takes a look; `undefined` when the reader does not look any more. */
  see(looked: Pick<Looked, "next" | "xmin"> | undefined): void {
    if (looked === undefined || looked.xmin >= looked.next) this.#oldest = undefined
    else if (looked.xmin !== this.#oldest?.number) {
      this.#oldest = { number: looked.xmin, since: this.#seconds() }
    }
  }

  /** In seconds; 0 when no transaction is open. */
  get age(): number {
    return this.#oldest === undefined ? 0 : this.#seconds() - this.#oldest.since
  }
}
