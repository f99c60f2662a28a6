/**
 * Identities that were revoked in the last seconds.
 *
 * `authenticate` may have looked before a revocation and let somebody in after it: who was looked at
 * before must not slip through between.
 */
export class Revocations {
  readonly #keepMillis: number
  readonly #recent = new Map<string, { readonly mark: number; readonly at: number }>()
  #count = 0

  /** Nobody is looked at for longer than `keepMillis`. */
  constructor(keepMillis: number) {
    this.#keepMillis = keepMillis
  }

  /** Where a look at somebody begins. */
  mark(): number {
    return this.#count
  }

  /** Whether an identity was revoked after a mark. */
  since(key: string, mark: number): boolean {
    return (this.#recent.get(key)?.mark ?? 0) > mark
  }

  add(key: string, now: number): void {
    // Insertion order is age.
    this.#recent.delete(key)
    this.#recent.set(key, { mark: ++this.#count, at: now })
  }

  /** Forgets what no look can have missed any more; called from time to time. */
  sweep(now: number): void {
    for (const [key, { at }] of this.#recent) {
      if (now - at <= this.#keepMillis) return
      this.#recent.delete(key)
    }
  }
}
