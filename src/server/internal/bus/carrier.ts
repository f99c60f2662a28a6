/**
 * What is below the bus: it carries texts to all nodes of a database, and knows nothing of what they say.
 *
 * A carrier may lose, double, reorder and delay texts, and carry texts of strangers: the bus encrypts,
 * numbers and probes. It reconnects by itself, for ever.
 */
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type * as SubscriptionRef from "effect/SubscriptionRef"

export interface Carrier {
  /** The largest text that it takes now, in bytes. At least 1,024. All texts are ASCII. */
  readonly maxBytes: () => number
  /** Sends a text to every node, this one included. Fails when the text surely did not leave. */
  readonly send: (text: string) => Effect.Effect<void, Error>
  /**
   * Calls `hear` with each text that arrives, until the scope closes. Completes once it listens, and
   * survives every reconnect. `hear` returns soon and never throws.
   */
  readonly receive: (hear: (text: string) => void) => Effect.Effect<void, Error, Scope.Scope>
  /** Whether it has a connection. */
  readonly state: SubscriptionRef.SubscriptionRef<"up" | "down">
  /** Closes the connection and opens another: the present one delivers nothing. */
  readonly renew: Effect.Effect<void>
}
