/**
 * What all sessions of a door share.
 */
import type * as Deferred from "effect/Deferred"
import type * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type { Application } from "../auth/callbacks.ts"
import type { SharedBucket } from "../limits/tokenBucket.ts"
import type { ResolvedLimits } from "../limits/limits.ts"
import type { Prover } from "../auth/authenticate.ts"
import type { PublishKeys } from "./publishKeys.ts"
import type { Refusal } from "../limits/refusalText.ts"
import type { Registry } from "./registry.ts"

export interface SessionContext extends Prover, Pick<Application, "authorize"> {
  readonly limits: ResolvedLimits
  readonly registry: Registry
  readonly slowConsumer: "gap" | "disconnect"
  /** What all sessions together may do: open channels, and ask `authorize`. */
  readonly opens: SharedBucket
  readonly looks: SharedBucket
  /** Publishes of the last minutes; the outcome is `undefined` when it was published. */
  readonly publishKeys: PublishKeys<Deferred.Deferred<Refusal | undefined>>
  /** Runs an effect with the door's services; its failures are logged, never thrown. */
  readonly run: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  /** The same for an effect that does not fail, so that it costs no more than itself. */
  readonly start: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  readonly sourceIsUp: () => boolean
  /** Counts a refusal: the limit that was crossed, with what it is, or else the code that was answered. */
  readonly refused: (reason: string, most?: number) => void
  /** Says that a rule of the application refused; what has the same key is said seldom. */
  readonly notice: (key: string, text: string) => Effect.Effect<void>
}
