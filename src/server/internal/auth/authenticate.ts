/**
 * Finds out who a client is: asks `authenticate`, in bounded time, and says no more than a code.
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

/** Everybody, on a door without `authenticate`. */
export const anonymous: Principal = { identity: undefined, key: "", expiresAt: Infinity }

/** What looking at a client takes. */
export interface Prover extends Pick<Application, "authenticate"> {
  readonly limits: Pick<ResolvedLimits, "authorizeTimeout">
  /** Milliseconds since 1970. */
  readonly clock: () => number
  /** Says that something failed, and why; the same failure is said seldom. */
  readonly failed: (what: string, cause: Cause.Cause<unknown>) => Effect.Effect<void>
  readonly revocations: Revocations
}

/** The identity was revoked while it was looked at. */
export const revoked: unique symbol = Symbol("revoked")

const undecided = "The server could not tell in time who the client is: try again later."
const failed = "The server failed to tell who the client is: try again later."

export const prove = (
  { authenticate, clock, failed: say, limits, revocations }: Prover,
  credentials: Credentials
): Effect.Effect<Principal | typeof revoked, Refusal> => {
  if (authenticate === undefined) {
    return Effect.fail(refusal("auth/invalid", "The server does not take tokens."))
  }
  return Effect.suspend(() => {
    const mark = revocations.mark()
    return within(authenticate(credentials), limits.authorizeTimeout).pipe(
      Effect.map((principal) => (revocations.since(principal.key, mark) ? revoked : principal)),
      Effect.filterOrFail(
        (principal) => principal === revoked || principal.expiresAt > clock(),
        () => new AuthRefused({ code: "auth/expired" })
      )
    )
  }).pipe(
    Effect.catchCause((cause) => {
      const error = Cause.squash(cause)
      if (error instanceof AuthRefused) return Effect.fail(refusal(error.code, error.message))
      // Whatever else it is, is nobody's business but the operator's.
      return Effect.andThen(
        say("authenticate failed", cause),
        Effect.fail(
          Cause.isTimeoutError(error)
            ? overLimit("authorizeTimeout", "server/internal", undecided)
            : refusal("server/internal", failed)
        )
      )
    })
  )
}

/** The close that follows a rejected hello, and what is special about it. */
export const closeFor = ({ code, limit }: Refusal): readonly [CloseName, string?] => {
  if (code === "auth/expired") return ["tokenExpired"]
  if (code !== "server/internal") return ["forbidden", code]
  return limit === undefined
    ? ["serverFailed", "authenticate failed"]
    : ["flooding", "authenticate took too long"]
}
