/**
 * The services and the limits that all sessions of a door share.
 */
import type * as Deferred from "effect/Deferred"
import type * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type { Application } from "../auth/callbacks.ts"
import type { SharedBucket } from "../limits/tokenBucket.ts"
import type { ResolvedLimits } from "../limits/limits.ts"
import type { Prover } from "../auth/authenticate.ts"
import type { PublishKeys } from "./publishKeys.ts"
import type { RuleLine } from "../limits/boundedLog.ts"
import type { Refusal } from "../limits/refusalText.ts"
import type { Tally } from "../tally.ts"
import type { Registry } from "./registry.ts"

export interface SessionContext extends Prover, Pick<Application, "authorize" | "publishRule"> {
  readonly limits: ResolvedLimits
  readonly tally: Tally
  readonly registry: Registry
  readonly slowConsumer: "gap" | "disconnect"
  /** Rates of all sessions together: opened channels (`opens`), and calls of `authorize` (`looks`). */
  readonly opens: SharedBucket
  readonly looks: SharedBucket
  /** Publishes of the last minutes. The outcome is `undefined` for one that was sent. */
  readonly publishKeys: PublishKeys<Deferred.Deferred<Refusal | undefined>>
  /** Runs an effect with the door's services. Its failures are logged and never thrown. */
  readonly run: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  /** Runs an effect that does not fail, without the cost of `run`. */
  readonly start: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  readonly sourceIsUp: () => boolean
  /** Whether the node does not know what was revoked, so that it accepts no new session. */
  readonly isBlind: () => boolean
  /** Counts a refusal by the limit that was crossed, with its value, or by the error code. `why` is for the log. */
  readonly refused: (reason: string, most?: number, why?: string) => void
  /** Logs that a rule of the application rejected a request; the same key is logged rarely. */
  readonly notice: (key: string, text: string) => Effect.Effect<void>
  /** Warns of a rejection that a change of the server's options would cure; the same key rarely. */
  readonly advice: (key: string, rule: Required<RuleLine>) => Effect.Effect<void>
}
