/**
 * Authenticates a client: calls `authenticate` in bounded time, and gives the client no more than a
 * code.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type { CloseName } from "../../../Protocol.ts"
import { AuthRefused, type Credentials } from "../../ServerOptions.ts"
import type { Application, Principal } from "./callbacks.ts"
import type { ResolvedLimits } from "../limits/limits.ts"
import { overLimit, type Refusal, refusal } from "../limits/refusalText.ts"
import type { Revocations } from "./revocations.ts"
import { within } from "./timeLimit.ts"

/** Every client of a door without `authenticate`. */
export const anonymous: Principal = { identity: undefined, key: "", expiresAt: Infinity }

/** What `prove` needs. */
export interface Prover extends Pick<Application, "authenticate"> {
  readonly limits: Pick<ResolvedLimits, "authorizeTimeout">
  /** The time, in milliseconds since 1970. */
  readonly clock: () => number
  /** Logs a failure with its cause; the same failure is logged rarely. */
  readonly failed: (what: string, cause: Cause.Cause<unknown>) => Effect.Effect<void>
  readonly revocations: Revocations
  /** Whether the client was revoked on any node. */
  readonly refuses: (principal: Principal) => boolean
}

/** In the place of a principal that was revoked meanwhile. */
export const revoked: unique symbol = Symbol("revoked")

const undecided = "The server could not authenticate the client in time: try again later."
const failed = "The server failed to authenticate the client: try again later."

/** Calls `accept` in the step in which the client is known not to be revoked, or to be. */
export const prove = (
  { authenticate, clock, failed: say, limits, refuses, revocations }: Prover,
  credentials: Credentials,
  accept: (principal: Principal | typeof revoked) => void
): Effect.Effect<void, Refusal> => {
  if (authenticate === undefined) {
    return Effect.fail(refusal("auth/invalid", "The server does not take tokens."))
  }
  return Effect.suspend(() => {
    const mark = revocations.mark()
    return Effect.map(within(authenticate(credentials), limits.authorizeTimeout), (principal) => ({
      principal,
      mark
    }))
  }).pipe(
    Effect.catchCause((cause) => {
      const error = Cause.squash(cause)
      if (error instanceof AuthRefused) {
        const { code, message, why } = error
        return Effect.fail(
          why === undefined ? refusal(code, message) : { ...refusal(code, message), why }
        )
      }
      // Other failures are only for the operator.
      return Effect.andThen(
        say("authenticate failed", cause),
        Effect.fail(
          Cause.isTimeoutError(error)
            ? overLimit("authorizeTimeout", "server/internal", undecided)
            : refusal("server/internal", failed)
        )
      )
    }),
    Effect.flatMap(({ mark, principal }) => {
      if (revocations.since(principal.key, mark) || refuses(principal)) accept(revoked)
      else if (principal.expiresAt > clock()) accept(principal)
      else return Effect.fail(refusal("auth/expired"))
      return Effect.void
    })
  )
}

/** The name and the detail of the close that follows a rejected hello. */
export const closeFor = ({ code, limit }: Refusal): readonly [CloseName, string?] => {
  if (code === "auth/expired") return ["tokenExpired"]
  if (code !== "server/internal") return ["forbidden", code]
  return limit === undefined
    ? ["serverFailed", "authenticate failed"]
    : ["flooding", "authenticate took too long"]
}
