/**
 * Envelopes: what nodes send each other, encrypted and signed as one text.
 *
 * A text is `1.`, the day since 1970, a dot, and in base64url a nonce of 12 bytes, a tag of 16, and the
 * encrypted rest: a line of JSON, and after it the raw piece of a message that fits into no envelope. The
 * key of AES-256-GCM is made by HKDF from a secret, the identity of the database, and the day.
 */
import { createCipheriv, createDecipheriv, type KeyObject, randomBytes } from "node:crypto"
import type { Node } from "../../NodeBus.ts"
import { dayOf, keyOf, type Secrets } from "./dayKey.ts"

/** A message or the part of a heartbeat, for the part of a node that joined the topic. */
export interface BusEntry {
  readonly kind: "message" | "beat"
  readonly topic: string
  readonly content: unknown
  /** The incarnation to which it goes; `undefined` for all. */
  readonly to: string | undefined
}

/** The place of a piece in a message that was cut. */
export interface MessagePiece {
  /** The number of the message, different for each of an incarnation. */
  readonly id: number
  readonly index: number
  readonly count: number
  readonly bytes: Buffer
}

export interface Envelope {
  readonly node: Node
  readonly counter: number
  /** When it was sent, in milliseconds since 1970. */
  readonly time: number
  readonly sort: Sort
  readonly entries: ReadonlyArray<BusEntry>
  readonly piece: MessagePiece | undefined
}

/**
 * A beat is a heartbeat, and the probe that its sender waits for. `guest`: a beat or a batch of a guest, which
 * asks the nodes and is none.
 */
export type Sort = "beat" | "batch" | "piece" | "goodbye" | "guest"

const version = "1"
const nonceBytes = 12
const tagBytes = 16
/** An entry as text, for `headOf`. */
export const entryText = ({ content, kind, to, topic }: BusEntry): string =>
  JSON.stringify([kind, topic, content ?? null, ...(to === undefined ? [] : [to])])

const entryOf = (value: unknown): BusEntry | undefined => {
  if (!Array.isArray(value)) return undefined
  const [kind, topic, content, to] = value as ReadonlyArray<unknown>
  if ((kind !== "message" && kind !== "beat") || typeof topic !== "string") return undefined
  return { kind, topic, content, to: typeof to === "string" ? to : undefined }
}

/** An entry from the bytes of all its pieces. */
export const entryOfBytes = (bytes: Buffer): BusEntry | undefined => {
  try {
    return entryOf(JSON.parse(bytes.toString("utf8")))
  } catch {
    return undefined
  }
}

/** What goes into an envelope of its node; `entries` are texts of `entryText`. */
export interface EnvelopeDraft {
  readonly node: Node
  readonly counter: number
  readonly time: number
  readonly sort: Sort
  readonly entries?: ReadonlyArray<string>
  readonly piece?: MessagePiece | undefined
}

const plainOf = ({ counter, entries = [], node, piece, sort, time }: EnvelopeDraft): Buffer => {
  const place = piece === undefined ? "" : `,${piece.id},${piece.index},${piece.count}`
  const { incarnation, name } = node
  const head = `[${JSON.stringify(name)},${JSON.stringify(incarnation)},${counter},${time},"${sort}",[${entries.join(",")}]${place}]`
  return piece === undefined
    ? Buffer.from(head)
    : Buffer.concat([Buffer.from(`${head}\n`), piece.bytes])
}

/** The bytes of entries, or of a piece, that fit into a text of `maxBytes` from this node. */
export const roomIn = (maxBytes: number, node: Node): number => {
  // The longest numbers, because their digits count too.
  const most = Number.MAX_SAFE_INTEGER
  const piece = { id: most, index: most, count: most, bytes: Buffer.alloc(0) }
  const head = plainOf({ node, counter: most, time: most, sort: "goodbye", piece }).length
  const day = `${version}.${dayOf(most)}.`.length
  return Math.floor(((maxBytes - day) * 3) / 4) - nonceBytes - tagBytes - head
}

const purpose = `effect-realtime bus ${version}`

const associated = (identity: string, day: number): Buffer =>
  Buffer.from(`${purpose} ${day} ${identity}`)

/** The text of an envelope. */
export const seal = ({ identity, secrets }: Secrets, draft: EnvelopeDraft): string => {
  const day = dayOf(draft.time)
  const nonce = randomBytes(nonceBytes)
  const cipher = createCipheriv("aes-256-gcm", keyOf(purpose, identity, secrets[0]!, day), nonce)
  cipher.setAAD(associated(identity, day))
  const sealed = Buffer.concat([cipher.update(plainOf(draft)), cipher.final()])
  const all = Buffer.concat([nonce, cipher.getAuthTag(), sealed])
  return `${version}.${day}.${all.toString("base64url")}`
}

const decrypted = (all: Buffer, key: KeyObject, aad: Buffer): Buffer | undefined => {
  const decipher = createDecipheriv("aes-256-gcm", key, all.subarray(0, nonceBytes))
  decipher.setAAD(aad)
  decipher.setAuthTag(all.subarray(nonceBytes, nonceBytes + tagBytes))
  try {
    return Buffer.concat([decipher.update(all.subarray(nonceBytes + tagBytes)), decipher.final()])
  } catch {
    return undefined
  }
}

const newline = "\n".charCodeAt(0)

const sorts: ReadonlySet<unknown> = new Set<Sort>(["beat", "batch", "piece", "goodbye", "guest"])

const envelopeOf = (plain: Buffer): Envelope | undefined => {
  const end = plain.indexOf(newline)
  let head: unknown
  try {
    head = JSON.parse(plain.toString("utf8", 0, end < 0 ? plain.length : end))
  } catch {
    return undefined
  }
  if (!Array.isArray(head)) return undefined
  const [name, incarnation, counter, time, sort, entries, id, index, count] =
    head as ReadonlyArray<unknown>
  if (typeof name !== "string" || typeof incarnation !== "string") return undefined
  if (typeof counter !== "number" || typeof time !== "number") return undefined
  if (!sorts.has(sort) || !Array.isArray(entries)) return undefined
  const cut = typeof id === "number" && typeof index === "number" && typeof count === "number"
  return {
    node: { name, incarnation },
    counter,
    time,
    sort: sort as Sort,
    entries: entries.flatMap((one) => entryOf(one) ?? []),
    piece: cut ? { id, index, count, bytes: plain.subarray(end + 1) } : undefined
  }
}

const shape = /^1\.(\d{1,9})\.([\w-]{38,})$/

/** The envelope of a text; `undefined` when no node of this database with a present secret sent it. */
export const unseal = (
  { identity, secrets }: Secrets,
  text: string,
  now: number
): Envelope | undefined => {
  const parts = shape.exec(text)
  if (parts === null) return undefined
  const day = Number(parts[1])
  // Near midnight the clocks of two nodes may be on two days.
  if (Math.abs(day - dayOf(now)) > 1) return undefined
  const all = Buffer.from(parts[2]!, "base64url")
  for (const secret of secrets) {
    const plain = decrypted(all, keyOf(purpose, identity, secret, day), associated(identity, day))
    if (plain !== undefined) return envelopeOf(plain)
  }
  return undefined
}
