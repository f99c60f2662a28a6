/**
 * The sessions of each identity. Most have one, so a set is made for the second only.
 */
export class Identities<Session extends object> {
  readonly #byKey = new Map<string, Session | Set<Session>>()

  /** Adds a session; `false`, and nothing is added, when the identity has `most` already. */
  add(key: string, session: Session, most: number): boolean {
    const theirs = this.#byKey.get(key)
    const count = theirs === undefined ? 0 : theirs instanceof Set ? theirs.size : 1
    if (count >= most) return false
    if (theirs === undefined) this.#byKey.set(key, session)
    else if (theirs instanceof Set) theirs.add(session)
    else this.#byKey.set(key, new Set([theirs, session]))
    return true
  }

  /** Removes a session, if it was added. */
  remove(key: string, session: Session): void {
    const theirs = this.#byKey.get(key)
    if (theirs === session || (theirs instanceof Set && theirs.delete(session) && !theirs.size)) {
      this.#byKey.delete(key)
    }
  }

  /** The sessions of an identity now. */
  of(key: string): ReadonlyArray<Session> {
    const theirs = this.#byKey.get(key)
    return theirs === undefined ? [] : theirs instanceof Set ? [...theirs] : [theirs]
  }
}
