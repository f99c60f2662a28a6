/**
 * Frames: what nodes send each other over NATS beside the bus, encrypted and signed as bytes.
 *
 * A frame is its version (1 byte), the day since 1970 (4), a nonce (12), a tag (16), and the encrypted rest:
 * the sender (16), its counter (6), its time (6), and the text. The database and the subject are signed with
 * it, so that a frame of another database or subject is none here.
 */
import { createCipheriv, createDecipheriv, type KeyObject, randomBytes } from "node:crypto"
import { dayOf, keyOf, type Secrets } from "../../server/internal/bus/dayKey.ts"

/** What a frame is beside its text. */
interface Head {
  /** 16 random bytes of one incarnation, as latin1. */
  readonly sender: string
  readonly counter: number
  /** When it was sent, in milliseconds since 1970. */
  readonly time: number
}

interface Frame extends Head {
  readonly text: string
}

const version = 1
const nonceAt = 5
const tagAt = nonceAt + 12
const restAt = tagAt + 16
const counterAt = 16
const timeAt = counterAt + 6
const textAt = timeAt + 6

/** The bytes of a frame without its text. */
export const frameBytes = restAt + textAt

/** The name of a sender, new for each incarnation. */
export const newSender = (): string => randomBytes(16).toString("latin1")

const purpose = `effect-realtime nats ${version}`

const associated = (identity: string, day: number, subject: string): Buffer =>
  Buffer.from(`${purpose} ${day} ${identity} ${subject}`)

/** The frame of a text for a subject. */
export const seal = (
  { identity, secrets }: Secrets,
  subject: string,
  { counter, sender, time }: Head,
  text: string
): Buffer => {
  const day = dayOf(time)
  const nonce = randomBytes(12)
  const cipher = createCipheriv("aes-256-gcm", keyOf(purpose, identity, secrets[0]!, day), nonce)
  cipher.setAAD(associated(identity, day, subject))
  const plain = Buffer.allocUnsafe(textAt + Buffer.byteLength(text))
  plain.write(sender, 0, "latin1")
  plain.writeUIntBE(counter, counterAt, 6)
  plain.writeUIntBE(time, timeAt, 6)
  plain.write(text, textAt)
  const sealed = cipher.update(plain)
  cipher.final()
  const head = Buffer.allocUnsafe(nonceAt)
  head.writeUInt8(version, 0)
  head.writeUInt32BE(day, 1)
  return Buffer.concat([head, nonce, cipher.getAuthTag(), sealed])
}

/** The frame in bytes that arrived on a subject; `undefined` when no node with a present secret sent it. */
export const unseal = (
  { identity, secrets }: Secrets,
  subject: string,
  data: Uint8Array,
  now: number
): Frame | undefined => {
  const all = Buffer.from(data.buffer, data.byteOffset, data.byteLength)
  if (all.length < frameBytes || all[0] !== version) return undefined
  const day = all.readUInt32BE(1)
  // Near midnight the clocks of two nodes may be on two days.
  if (Math.abs(day - dayOf(now)) > 1) return undefined
  const aad = associated(identity, day, subject)
  for (const secret of secrets) {
    const plain = decrypted(all, keyOf(purpose, identity, secret, day), aad)
    if (plain === undefined) continue
    return {
      sender: plain.toString("latin1", 0, counterAt),
      counter: plain.readUIntBE(counterAt, 6),
      time: plain.readUIntBE(timeAt, 6),
      text: plain.toString("utf8", textAt)
    }
  }
  return undefined
}

const decrypted = (all: Buffer, key: KeyObject, aad: Buffer): Buffer | undefined => {
  const decipher = createDecipheriv("aes-256-gcm", key, all.subarray(nonceAt, tagAt))
  decipher.setAAD(aad)
  decipher.setAuthTag(all.subarray(tagAt, restAt))
  const plain = decipher.update(all.subarray(restAt))
  try {
    decipher.final()
    return plain
  } catch {
    return undefined
  }
}
