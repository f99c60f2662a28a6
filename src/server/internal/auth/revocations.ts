/**
 * The identities that were revoked in the last seconds.
 *
 * `authenticate` may have read its data before a revocation and return after it. A client that was
 * authenticated meanwhile must not get in.
 */
export class Revocations {
  readonly #keepMillis: number
  readonly #recent = new Map<string, { readonly mark: number; readonly at: number }>()
  #count = 0

  /** `keepMillis`: the longest time that `authenticate` takes. */
  constructor(keepMillis: number) {
    this.#keepMillis = keepMillis
  }

  /** The mark of an authentication that begins now. */
  mark(): number {
    return this.#count
  }

  /** Whether the identity was revoked after a mark. */
  since(key: string, mark: number): boolean {
    return (this.#recent.get(key)?.mark ?? 0) > mark
  }

  add(key: string, now: number): void {
    // Insertion order is age.
    this.#recent.delete(key)
    this.#recent.set(key, { mark: ++this.#count, at: now })
  }

  /** Forgets revocations older than any authentication under way. Called from time to time. */
  sweep(now: number): void {
    for (const [key, { at }] of this.#recent) {
      if (now - at <= this.#keepMillis) return
      this.#recent.delete(key)
    }
  }
}
