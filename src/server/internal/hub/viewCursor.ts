/**
 * What names a filtered view: its label on the wire, and the digest in its cursors.
 *
 * A cursor of a filtered view is the outbox's cursor, a dot, and a digest of the channel and the filter.
 * The digest shows that a cursor was made for another filter: the events after it are then not the ones
 * that its client lacks. All nodes of a database make the same digest. The label is the same on one node
 * only, and shows nothing of what `authorize` added.
 */
import { createHmac, randomBytes } from "node:crypto"
import { type Filter, make } from "../filter.ts"
import type { Where } from "../../../Frame.ts"

/** What a filtered view has beside its channel. */
export interface Narrowed {
  readonly filter: Filter
  /** The `view` of its frames: equal for the same channel, condition of the client, and boundary. */
  readonly label: string
  /** Stands at the end of its cursors. */
  readonly digest: string
}

/** Characters of a label and of a digest: 72 bits. */
const length = 12

const hmac = (key: string | Buffer, ...parts: ReadonlyArray<string>): string =>
  createHmac("sha256", key).update(parts.join("\n")).digest("base64url").slice(0, length)

const ofNode = randomBytes(32)

/** The view of a channel for what the client asked and what `authorize` added, which a filter is made of. */
export const narrowedTo = (
  channel: string,
  filter: Filter,
  where: Where | undefined,
  boundary: Where | undefined,
  /** That of the database. */
  secret: string
): Narrowed => ({
  filter,
  label: hmac(ofNode, channel, make(where)?.text ?? "", make(boundary)?.text ?? ""),
  digest: hmac(secret, channel, filter.text)
})

/** The outbox's cursor of a view's cursor; `undefined` if it was made for another filter, or for none. */
export const withoutDigest = (cursor: string, digest: string): string | undefined =>
  cursor.endsWith(`.${digest}`) ? cursor.slice(0, -digest.length - 1) : undefined

/** The outbox's cursor of any cursor. */
export const outboxCursor = (cursor: string): string => cursor.split(".", 3).join(".")
