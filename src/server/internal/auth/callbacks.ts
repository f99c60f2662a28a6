/**
 * `authenticate`, `authorize` and the rules of the application, with their services and without their
 * types.
 */
import * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type { RuleRefused } from "../../Rule.ts"
import type { AuthRefused, Authorize, Credentials, Options, Request } from "../../ServerOptions.ts"
import { checked, type InvalidOption } from "../options.ts"
import { askRule, readRules } from "./rules.ts"

/** The authenticated client of a session. */
export interface Principal {
  readonly identity: unknown
  /** The identity as text: the same on every session of one identity. */
  readonly key: string
  /** When the token expires, in milliseconds since 1970; Infinity if it does not. */
  readonly expiresAt: number
  /** When the token was issued, in milliseconds since 1970. */
  readonly issued?: number | undefined
  /** The name of the token. */
  readonly token?: string | undefined
}

export interface Application {
  /** `undefined` on a door without authentication. */
  readonly authenticate:
    | ((credentials: Credentials) => Effect.Effect<Principal, AuthRefused>)
    | undefined
  /** `authorize`, or the rule for subscribing. Only `true` allows the request. */
  readonly authorize: (request: Request<unknown>) => Effect.Effect<unknown, RuleRefused>
  /**
   * What the rule for publishing makes of a client's payload, or that for presence of a member's state.
   * `undefined` on a door with `authorize`, which allows both as they are.
   */
  readonly publishRule:
    | ((request: Request<unknown>, payload: unknown) => Effect.Effect<unknown, RuleRefused>)
    | undefined
}

/** The default of `identityKey`. The types require it for identities that are not strings. */
const keyOf = (identity: unknown): string => {
  if (typeof identity === "string") return identity
  throw new TypeError("An identity is not a string: the option identityKey must give its text.")
}

/**
 * Milliseconds of the expiry. Throws for an invalid one: `authenticate` failed, and the token may be
 * good.
 */
const endOf = (expires: Date | undefined | null): number => {
  if (expires === undefined || expires === null) return Infinity
  if (expires instanceof Date && !Number.isNaN(expires.getTime())) return expires.getTime()
  throw new TypeError(
    `authenticate gave expires as ${expires instanceof Date ? "an invalid Date" : `a ${typeof expires}`}: it must be a valid Date, or left out where the proof does not end.`
  )
}

/** Not later than now: another clock may be ahead, and the token is here. */
const issueOf = (issued: Date | undefined | null, now: number): number | undefined => {
  if (issued === undefined || issued === null) return undefined
  if (issued instanceof Date && !Number.isNaN(issued.getTime())) {
    return Math.min(issued.getTime(), now)
  }
  throw new TypeError(
    "authenticate gave issued as no valid Date: leave it out where it is unknown."
  )
}

/** `authorize` of the options, or their rules. */
const deciding = <I, R>(
  options: Options<I, R>,
  context: Context.Context<R>
): Pick<Application, "authorize" | "publishRule"> => {
  const { authorize, rules } = options
  if (rules === undefined) {
    return {
      // Only `authenticate` makes identities, so this one has the type that `authorize` takes.
      authorize: (request) =>
        Effect.provideContext(
          (authorize as Authorize<unknown, R>)({
            ...request,
            identity: options.authenticate === undefined ? undefined : request.identity
          }),
          context
        ),
      publishRule: undefined
    }
  }
  const ruleOf = readRules({ channels: options.channels, rules })
  return {
    authorize: (request) => Effect.provideContext(askRule<R>(ruleOf, request), context),
    publishRule: (request, payload) =>
      Effect.provideContext(
        askRule<R>(
          ruleOf,
          request,
          request.action === "present" ? { member: payload } : { payload }
        ),
        context
      )
  }
}

/** Makes the callbacks from the options of a door. Fails for rules that cannot be in force. */
export const applicationOf = <I, R>(
  options: Options<I, R>,
  tokenAge: number
): Effect.Effect<Application, InvalidOption, R> =>
  Effect.gen(function* () {
    const context = yield* Effect.context<R>()
    const clock = yield* Clock.Clock
    const decides = yield* checked(() => deciding(options, context))
    if (options.authenticate === undefined) return { authenticate: undefined, ...decides }
    const { authenticate, identityKey = keyOf } = options
    return {
      authenticate: (credentials) =>
        authenticate(credentials).pipe(
          Effect.provideContext(context),
          Effect.map(({ expires, identity, issued, token }): Principal => {
            const now = clock.currentTimeMillisUnsafe()
            return {
              identity,
              key: identityKey(identity),
              expiresAt: Math.min(endOf(expires), now + tokenAge),
              issued: issueOf(issued, now),
              token
            }
          })
        ),
      ...decides
    }
  })
