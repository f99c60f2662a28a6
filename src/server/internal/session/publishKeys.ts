/**
 * What makes a retried publish safe while the node lives: the keys of the last minutes.
 *
 * The same key with the same data shares the answer of the first, also while that is still on its way
 * to the database; with other data it is refused. A publish that failed is forgotten, so that a retry
 * is tried again.
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

  /** Keys of all identities. */
  get size(): number {
    return this.#size
  }

  /**
   * What is known of a publish: its outcome, `conflict` when the key came with other data, or
   * `undefined` when it is new.
   */
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

  /** Gives the limit that was crossed, if one was: then the oldest key of this identity is forgotten. */
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
    // Insertion order is age: what comes again is young again, and the first one is the oldest.
    this.#delete(keys, name)
    keys.set(name, { digest, at: now, outcome })
    this.#size++
    const crossed =
      keys.size > maxPublishKeysPerIdentity
        ? "maxPublishKeysPerIdentity"
        : this.#size > maxPublishKeys
          ? "maxPublishKeys"
          : undefined
    // A busy identity pays for itself. One with a single key has none to give.
    if (crossed === undefined || keys.size === 1) return undefined
    this.#delete(keys, keys.keys().next().value!)
    return crossed
  }

  forget(identity: string, channel: string, key: string): void {
    const keys = this.#identities.get(identity)
    if (keys !== undefined) this.#delete(keys, `${channel} ${key}`)
  }

  /** Forgets what is too old; called from time to time. */
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

/** Tells data apart without keeping it: 10,000 payloads per identity would be too much. */
export const digestOf = (json: string): string => createHash("sha256").update(json).digest("base64")
