/**
 * The sessions of each identity. Most identities have one session, so only the second one makes a set.
 */
export class Identities<Session extends object> {
  readonly #byKey = new Map<string, Session | Set<Session>>()

  /** Adds a session. Returns `false` and adds nothing if the identity has `most` sessions. */
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

  /** The current sessions of an identity. */
  of(key: string): ReadonlyArray<Session> {
    const theirs = this.#byKey.get(key)
    return theirs === undefined ? [] : theirs instanceof Set ? [...theirs] : [theirs]
  }
}
