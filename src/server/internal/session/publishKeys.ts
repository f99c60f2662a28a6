/**
 * Makes a retried publish safe while the node lives: the publish keys of the last minutes.
 *
 * A publish with the same key and the same data shares the first outcome, also while the first is on
 * its way to the database. With other data it is rejected. A publish that failed is forgotten, so that
 * a retry sends it again.
 */
import { createHash } from "node:crypto"
import type { ResolvedLimits } from "../limits/limits.ts"

type Limit = "maxPublishKeys" | "maxPublishKeysPerIdentity"

export interface Remembered<Outcome> {
  readonly digest: string
  readonly at: number
  readonly outcome: Outcome
}

export class PublishKeys<Outcome> {
  readonly #identities = new Map<string, Map<string, Remembered<Outcome>>>()
  readonly #limits: Pick<ResolvedLimits, Limit | "maxPublishKeyAge">
  #size = 0

  constructor(limits: Pick<ResolvedLimits, Limit | "maxPublishKeyAge">) {
    this.#limits = limits
  }

  /** The number of keys of all identities. */
  get size(): number {
    return this.#size
  }

  /** The outcome of an earlier publish, `conflict` for a key with other data, `undefined` for a new key. */
  find(
    identity: string,
    channel: string,
    key: string,
    digest: string,
    now: number
  ): Outcome | "conflict" | undefined {
    const known = this.#identities.get(identity)?.get(`${channel} ${key}`)
    if (known === undefined || now - known.at > this.#limits.maxPublishKeyAge) return undefined
    return known.digest === digest ? known.outcome : "conflict"
  }

  /** Remembers a publish. At a limit it forgets the identity's oldest key and returns the limit. */
  remember(
    identity: string,
    channel: string,
    key: string,
    digest: string,
    now: number,
    outcome: Outcome
  ): Limit | undefined {
    const { maxPublishKeys, maxPublishKeysPerIdentity } = this.#limits
    const keys = this.#identities.get(identity) ?? new Map<string, Remembered<Outcome>>()
    this.#identities.set(identity, keys)
    const name = `${channel} ${key}`
    // Insertion order is age. A key that is used again becomes the youngest.
    this.#delete(keys, name)
    keys.set(name, { digest, at: now, outcome })
    this.#size++
    const crossed =
      keys.size > maxPublishKeysPerIdentity
        ? "maxPublishKeysPerIdentity"
        : this.#size > maxPublishKeys
          ? "maxPublishKeys"
          : undefined
    // A busy identity loses its own oldest key. An identity with a single key keeps it.
    if (crossed === undefined || keys.size === 1) return undefined
    this.#delete(keys, keys.keys().next().value!)
    return crossed
  }

  /** Forgets a publish, but not a later one with the same key. */
  forget(identity: string, channel: string, key: string, outcome: Outcome): void {
    const keys = this.#identities.get(identity)
    const name = `${channel} ${key}`
    if (keys?.get(name)?.outcome === outcome) this.#delete(keys, name)
  }

  /** Forgets keys older than `maxPublishKeyAge`. Called from time to time. */
  sweep(now: number): void {
    for (const [identity, keys] of this.#identities) {
      for (const [name, { at }] of keys) {
        if (now - at <= this.#limits.maxPublishKeyAge) break
        this.#delete(keys, name)
      }
      if (keys.size === 0) this.#identities.delete(identity)
    }
  }

  #delete(keys: Map<string, Remembered<Outcome>>, name: string): void {
    if (keys.delete(name)) this.#size--
  }
}

/** A digest of the data, kept instead of the data: 10,000 payloads per identity would be too much. */
export const digestOf = (json: string): string => createHash("sha256").update(json).digest("base64")
