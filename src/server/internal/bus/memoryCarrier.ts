/** A carrier in this process: a network delivers a text in the step in which a node sends it. */
import * as Effect from "effect/Effect"
import * as SubscriptionRef from "effect/SubscriptionRef"
import { randomUUID } from "node:crypto"
import type { Keys } from "./bus.ts"
import type { Carrier } from "./carrier.ts"

/**
 * What a network does with a text on its way from one node to another, by their names: it calls `deliver`
 * at once, later, more than once, or never.
 *
 * @category models
 * @since 0.1.0
 */
export type NetworkFault = (
  path: { readonly from: string; readonly to: string; readonly text: string },
  deliver: () => void
) => void

/**
 * A network in this process.
 *
 * @category models
 * @since 0.1.0
 */
export interface MemoryNetwork {
  /** Delivers a text to every node, as one that knows no key could. */
  readonly inject: (text: string) => void
  /** @internal */
  readonly join: (name: string, hear: (text: string) => void) => () => void
  /** @internal */
  readonly carry: (from: string, text: string) => void
  /** @internal */
  readonly secret: string
}

export const makeNetwork = (fault?: NetworkFault): MemoryNetwork => {
  const ears = new Set<{ readonly name: string; readonly hear: (text: string) => void }>()
  const carry = (from: string, text: string): void => {
    // A node that leaves meanwhile hears nothing more.
    for (const one of ears) {
      const deliver = () => (ears.has(one) ? one.hear(text) : undefined)
      if (fault === undefined) deliver()
      else fault({ from, to: one.name, text }, deliver)
    }
  }
  return {
    inject: (text) => {
      for (const { hear } of ears) hear(text)
    },
    join: (name, hear) => {
      const one = { name, hear }
      ears.add(one)
      return () => void ears.delete(one)
    },
    carry,
    secret: randomUUID()
  }
}

export const networkKeys = ({ secret }: MemoryNetwork): Keys => {
  const secrets = { identity: "memory", secrets: [secret] }
  return { current: () => secrets, lasting: Effect.succeed(secret), again: Effect.void }
}

export const carrierOf = (network: MemoryNetwork, name: string): Effect.Effect<Carrier> =>
  Effect.map(SubscriptionRef.make<"up" | "down">("up"), (state): Carrier => ({
    maxBytes: () => 7999,
    send: (text) => Effect.sync(() => network.carry(name, text)),
    receive: (hear) =>
      Effect.asVoid(
        Effect.acquireRelease(
          Effect.sync(() => network.join(name, hear)),
          (leave) => Effect.sync(leave)
        )
      ),
    state,
    renew: Effect.void
  }))
