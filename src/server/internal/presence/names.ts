/**
 * The names of members: the same on every node and for every session of a person, and a secret of the nodes
 * away from any session or identity.
 *
 * The nodes agree on the secret without asking: each sends its own, and the smallest counts. A node that starts
 * hears the others before it makes one.
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
  #secret: string | undefined

  /** `undefined` until the first name is made, or another node sent its secret. */
  get secret(): string | undefined {
    return this.#secret
  }

  /** Takes the secret of another node. Returns whether all names are other ones now. */
  adopt(secret: string): boolean {
    const before = this.#secret
    if (before !== undefined && before <= secret) return false
    this.#secret = secret
    return before !== undefined
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
    this.#secret ??= randomBytes(18).toString("base64url")
    const hash = createHmac("sha256", this.#secret).update(parts.join("\0"))
    return hash.digest("base64url").slice(0, 16)
  }
}
