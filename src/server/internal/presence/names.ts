/**
 * The names of members: the same on every node and for every session of a person, and a secret of the nodes
 * away from any session or identity.
 *
 * The nodes agree on the secret: each sends its own. One that is in use counts more than one of a node that
 * starts, and of two such the smaller one counts.
 */
import { createHmac, randomBytes } from "node:crypto"

/** The session of a seat, with the key of its identity if it has one. */
export interface SeatHolder {
  readonly session: string
  readonly identity: string | undefined
  /** What the channel counts. */
  readonly counts: "persons" | "devices"
}

export class Names {
  #secret = randomBytes(18).toString("base64url")
  #inUse = false

  get secret(): string {
    return this.#secret
  }

  /** Whether names were made with the secret, here or on another node. */
  get inUse(): boolean {
    return this.#inUse
  }

  use(): void {
    this.#inUse = true
  }

  /** Takes the secret of another node if it counts more. Returns whether names in use are other ones now. */
  adopt(secret: string, inUse: boolean): boolean {
    if (secret === this.#secret) {
      this.#inUse ||= inUse
      return false
    }
    if (this.#inUse !== inUse ? this.#inUse : this.#secret < secret) return false
    const renames = this.#inUse
    this.#secret = secret
    this.#inUse = inUse
    return renames
  }

  /** The member of a seat. */
  member(channel: string, { counts, identity, session }: SeatHolder): string {
    return counts === "persons" && identity !== undefined
      ? this.#hash("person", channel, identity)
      : this.#hash("device", channel, session)
  }

  /** What another session must have to take over a seat; empty where none can. */
  proof(channel: string, { counts, identity }: SeatHolder): string {
    return counts === "devices" && identity !== undefined
      ? this.#hash("proof", channel, identity)
      : ""
  }

  #hash(...parts: ReadonlyArray<string>): string {
    const hash = createHmac("sha256", this.#secret).update(parts.join("\0"))
    return hash.digest("base64url").slice(0, 16)
  }
}
