/**
 * `authenticate` for servers whose tokens are JSON Web Tokens: signed, with an expiry, and for this
 * server.
 *
 * `jose` verifies the tokens. This module decides the rest: the algorithms that a kind of key allows, so
 * that a token cannot choose; that a token must have an expiry; which failures are the client's and which
 * are the server's. A client receives one of three codes, without the reason.
 *
 * @since 0.1.0
 */
import { jwt as Defaults } from "../internal/defaults.ts"
import * as Clock from "effect/Clock"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { JWTExpired } from "jose/errors"
import { jwtVerify } from "jose/jwt/verify"
import type { JSONWebKeySet, JWK, JWTPayload } from "jose"
import type { KeyObject } from "node:crypto"
import {
  type Algorithm,
  checkAlgorithms,
  keysOf,
  KeysUnavailable,
  type PublicAlgorithm,
  type SecretAlgorithm
} from "./internal/auth/jwtKeys.ts"
import { millis } from "./internal/options.ts"
import { missingClaim, whyInvalid } from "./internal/auth/jwtFaults.ts"
import { AuthRefused, type Credentials } from "./ServerOptions.ts"
import type * as Server from "./ServerOptions.ts"

export type {
  /**
   * @category models
   * @since 0.1.0
   */
  Algorithm,
  /**
   * @category models
   * @since 0.1.0
   */
  PublicAlgorithm,
  /**
   * @category models
   * @since 0.1.0
   */
  SecretAlgorithm
} from "./internal/auth/jwtKeys.ts"

/**
 * The claims of a token, after its signature, times, issuer and audience were checked.
 *
 * @category models
 * @since 0.1.0
 */
export type Claims = JWTPayload

/**
 * The accepted values of the claim `iss` or `aud`: one text or several.
 *
 * @category models
 * @since 0.1.0
 */
export type Expected = string | ReadonlyArray<string>

/**
 * The keys that tokens are signed with, and the options that belong to their kind.
 *
 * @category models
 * @since 0.1.0
 */
export type Keys =
  | {
      /**
       * A secret that issuer and server share, at least as long as its hash: 32 bytes for HS256. A text
       * is used as its UTF-8 bytes.
       */
      readonly keys: Redacted.Redacted<string> | Redacted.Redacted<Uint8Array>
      /** Default HS256. */
      readonly algorithms?: ReadonlyArray<SecretAlgorithm> | undefined
      readonly issuer?: Expected | undefined
      readonly audience?: Expected | undefined
    }
  | {
      /** One key: a `KeyObject` (`createPublicKey(pem)`), or a JWK. */
      readonly keys: KeyObject | JWK
      /** Default: all that a public key can have, HS256 with a secret. */
      readonly algorithms?: ReadonlyArray<Algorithm> | undefined
      readonly issuer?: Expected | undefined
      readonly audience?: Expected | undefined
    }
  | {
      /**
       * The `https` address of a key set, or the key set. The server keeps a fetched set for 10 minutes.
       * It fetches again for an unknown key, at most every 30 s. A fetch times out after 3 s.
       */
      readonly keys: string | URL | JSONWebKeySet
      /** Default: all algorithms with a key pair; the key set says which key has which. */
      readonly algorithms?: ReadonlyArray<PublicAlgorithm> | undefined
      /**
       * The accepted issuers. An identity provider also signs tokens for other applications, so `"any"`
       * must be explicit.
       */
      readonly issuer: Expected | "any"
      /** The accepted audiences; `"any"` must be explicit, see `issuer`. */
      readonly audience: Expected | "any"
    }

/**
 * The options of every kind of key.
 *
 * @category models
 * @since 0.1.0
 */
export interface Common {
  /** The accepted difference between the clocks of issuer and server, default 5 s. */
  readonly clockTolerance?: Duration.Input | undefined
  /** The longest time after its claim `iat` that a token is accepted, default as long as it says itself. */
  readonly maxAge?: Duration.Input | undefined
  /**
   * The cookie that holds the token when the client sends none. Its value is that of the upgrade request.
   */
  readonly cookie?: string | undefined
}

/**
 * Makes an identity of the claims: a Schema, or a function with a known result type. Unless the identity
 * is text, the server requires `identityKey`, which must be the same for every token of one user: use
 * `sub`, never `jti` or a role. Claims that do not match the Schema are rejected with `auth/invalid`.
 *
 * @category models
 * @since 0.1.0
 */
export type Identity<I, R = never> =
  | Schema.ConstraintDecoder<I, R>
  | ((claims: Claims) => I | Effect.Effect<I, AuthRefused, R>)

/**
 * Options of `authenticate`.
 *
 * @category models
 * @since 0.1.0
 */
export type Options<I, R = never> = Common & Keys & { readonly identity: Identity<I, R> }

/**
 * An identity of a known type. With an unknown type the compiler cannot decide whether the server
 * requires `identityKey`.
 *
 * @category models
 * @since 0.1.0
 */
export type Known<I> = unknown extends I
  ? { readonly identity: (claims: Claims) => never }
  : unknown

/**
 * An `authenticate` that accepts JSON Web Tokens. It is more than a function, because TypeScript does not
 * infer through a generic call that gives a plain function: the `authorize` beside it would not know the
 * identity.
 *
 * @category models
 * @since 0.1.0
 */
export type Authenticate<I, R = never> = Server.Authenticate<I, R> & {
  /** The accepted algorithms. */
  readonly algorithms: ReadonlyArray<string>
}

/** The largest time of a `Date`, in milliseconds. */
const endOfTime = 8.64e15

/**
 * Makes an `authenticate` that accepts JSON Web Tokens. Without `identity`, the identity is the claim
 * `sub`.
 *
 * An expired token is rejected with `auth/expired`, a missing token with `auth/required`. Anything else
 * is rejected with `auth/invalid`: the signature, the issuer, the audience, an algorithm that is not
 * allowed, no `exp`. When the server cannot fetch keys, it logs the failure and answers the client
 * `server/internal`.
 *
 * The claims `iat` and `jti` are what `revoke` of the server knows a token by: it refuses the tokens that an
 * identity was issued before, or those with one `jti`.
 *
 * Throws `InvalidOption` when keys and algorithms do not fit together.
 *
 * **Example** (Taking the tokens of an identity provider)
 *
 * ```ts
 * const authenticate = Jwt.authenticate({
 *   keys: "https://id.example.com/.well-known/jwks.json",
 *   issuer: "https://id.example.com/",
 *   audience: "my-app"
 * })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const authenticate: {
  (options: Common & Keys & { readonly identity?: undefined }): Authenticate<string>
  <I, R = never>(options: Options<I, R> & Known<NoInfer<I>>): Authenticate<I, R>
} = (<I, R>(
  options: Common & Keys & { readonly identity?: Identity<I | string, R> | undefined }
): Authenticate<I | string, R> => {
  const usable = keysOf(options.keys)
  const tolerance = seconds("clockTolerance", options.clockTolerance ?? Defaults.clockTolerance, 0)
  const maxAge = options.maxAge === undefined ? undefined : seconds("maxAge", options.maxAge, 1)
  const { audience, issuer } = options
  const algorithms = [...checkAlgorithms(usable, options.algorithms)]
  const verify = {
    algorithms,
    clockTolerance: tolerance,
    requiredClaims: ["exp"],
    ...(issuer === undefined || issuer === "any" ? {} : { issuer: [issuer].flat() }),
    ...(audience === undefined || audience === "any" ? {} : { audience: [audience].flat() }),
    ...(maxAge === undefined ? {} : { maxTokenAge: maxAge })
  }
  const identify = identifyWith(options.identity ?? subject)

  const check: Server.Authenticate<I | string, R> = (credentials) =>
    Effect.gen(function* () {
      const token = tokenOf(credentials, options.cookie)
      if (token === undefined) return yield* new AuthRefused({ code: "auth/required" })
      const currentDate = new Date(yield* Clock.currentTimeMillis)
      const { payload } = yield* Effect.tryPromise({
        try: () => jwtVerify(token, usable.find, { ...verify, currentDate }),
        catch: (error) => error
      }).pipe(
        Effect.catch((error) =>
          error instanceof KeysUnavailable
            ? Effect.die(error)
            : error instanceof JWTExpired
              ? new AuthRefused({ code: "auth/expired" })
              : new AuthRefused({ code: "auth/invalid", why: whyInvalid(error) })
        )
      )
      const { exp = 0, iat = 0 } = payload
      const ends = Math.min(exp, maxAge === undefined ? Infinity : iat + maxAge) + tolerance
      const identity = yield* identify(payload)
      return {
        identity,
        expires: new Date(Math.min(ends * 1000, endOfTime)),
        ...(payload.iat === undefined ? {} : { issued: new Date(payload.iat * 1000) }),
        ...(payload.jti === undefined ? {} : { token: payload.jti })
      }
    })
  return Object.assign(check, { algorithms })
  // `identity` selects the overload, which the implementation's type cannot express.
}) as never

const seconds = (name: string, input: Duration.Input, least: number): number =>
  millis(`jwt.${name}`, input, { least }) / 1000

/** The subject of a token; a token without one is rejected. */
const subject = ({ sub }: Claims): Effect.Effect<string, AuthRefused> =>
  sub === undefined || sub === ""
    ? Effect.fail(new AuthRefused({ code: "auth/invalid", why: missingClaim("sub") }))
    : Effect.succeed(sub)

const identifyWith = <I, R>(
  identity: Identity<I, R>
): ((claims: Claims) => Effect.Effect<I, AuthRefused, R>) => {
  if (typeof identity === "function" && !Schema.isSchema(identity)) {
    return (claims) =>
      Effect.suspend(() => {
        const value = identity(claims)
        return Effect.isEffect(value) ? value : Effect.succeed(value)
      })
  }
  const decode = Schema.decodeUnknownEffect(identity as Schema.Codec<I, unknown, R>)
  return (claims) =>
    Effect.mapError(decode(claims), () => new AuthRefused({ code: "auth/invalid" }))
}

const tokenOf = (
  { headers, token }: Credentials,
  cookie: string | undefined
): string | undefined => {
  const found = token ?? (cookie === undefined ? undefined : cookieOf(headers.cookie ?? "", cookie))
  return found === "" ? undefined : found
}

/** The value of the first cookie with a name. */
const cookieOf = (header: string, name: string): string | undefined => {
  for (const pair of header.split(";")) {
    const at = pair.indexOf("=")
    if (at !== -1 && pair.slice(0, at).trim() === name) {
      return pair
        .slice(at + 1)
        .trim()
        .replace(/^"(.*)"$/, "$1")
    }
  }
  return undefined
}
