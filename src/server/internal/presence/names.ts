/**
 * The names of members: the same on every node and for every session of a person, and a secret of the nodes
 * away from any session or identity.
 *
 * The secret is that of the database, so nodes that cannot hear each other give the same names.
 */
import { createHmac } from "node:crypto"

/** The session of a seat, with the key of its identity if it has one. */
export interface SeatHolder {
  readonly session: string
  readonly identity: string | undefined
  /** What the channel counts. */
  readonly counts: "persons" | "devices"
}

export class Names {
  readonly #secret: string

  constructor(secret: string) {
    this.#secret = secret
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
