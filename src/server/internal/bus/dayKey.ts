/**
 * The keys with which nodes encrypt what they send each other: one for each day, secret, database and purpose.
 *
 * A key of AES-256-GCM is made by HKDF, so that the secret itself encrypts nothing.
 */
import { createSecretKey, hkdfSync, type KeyObject } from "node:crypto"

/** What the keys of a database are made from. */
export interface Secrets {
  /** The identity of the database. */
  readonly identity: string
  /** The newest one first, which encrypts; each decrypts. */
  readonly secrets: ReadonlyArray<string>
}

/** A message is dropped when its time differs by more, in milliseconds. */
export const maxOff = 30_000

const dayMillis = 86_400_000

/** The number of the day since 1970. */
export const dayOf = (now: number): number => Math.floor(now / dayMillis)

const known = new Map<string, KeyObject>()

/** `purpose`: the key of one purpose reads nothing of another one. */
export const keyOf = (
  purpose: string,
  identity: string,
  secret: string,
  day: number
): KeyObject => {
  const name = JSON.stringify([purpose, identity, secret, day])
  let key = known.get(name)
  if (key === undefined) {
    // Two secrets, three days and two purposes.
    if (known.size > 64) known.clear()
    // A cipher of a key as bytes takes ten times as long to make.
    const bytes = hkdfSync("sha256", secret, identity, `${purpose} ${day}`, 32)
    key = createSecretKey(Buffer.from(bytes))
    known.set(name, key)
  }
  return key
}
