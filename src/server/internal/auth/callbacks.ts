/**
 * `authenticate` and `authorize` of the application, with their services and without their types.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type { AuthRefused, Credentials, Options, Request } from "../../ServerOptions.ts"

/** The authenticated client of a session. */
export interface Principal {
  readonly identity: unknown
  /** The identity as text: the same on every session of one identity. */
  readonly key: string
  /** When the token expires, in milliseconds since 1970; Infinity if it does not. */
  readonly expiresAt: number
}

export interface Application {
  /** `undefined` on a door without authentication. */
  readonly authenticate:
    | ((credentials: Credentials) => Effect.Effect<Principal, AuthRefused>)
    | undefined
  readonly authorize: (request: Request<unknown>) => Effect.Effect<boolean>
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

/** Makes the callbacks from the options of a door. */
export const applicationOf = <I, R>(
  options: Options<I, R>,
  tokenAge: number
): Effect.Effect<Application, never, R> =>
  Effect.gen(function* () {
    const context = yield* Effect.context<R>()
    const clock = yield* Clock.Clock
    if (options.authenticate === undefined) {
      const { authorize } = options
      return {
        authenticate: undefined,
        authorize: (request) =>
          Effect.provideContext(authorize({ ...request, identity: undefined }), context)
      }
    }
    const { authenticate, authorize, identityKey = keyOf } = options
    return {
      authenticate: (credentials) =>
        authenticate(credentials).pipe(
          Effect.provideContext(context),
          Effect.map(({ expires, identity }): Principal => ({
            identity,
            key: identityKey(identity),
            expiresAt: Math.min(endOf(expires), clock.currentTimeMillisUnsafe() + tokenAge)
          }))
        ),
      // Only `authenticate` makes identities, so this one has its type.
      authorize: (request) =>
        Effect.provideContext(authorize({ ...request, identity: request.identity as I }), context)
    }
  })
