/**
 * `authenticate` for servers whose tokens are JSON Web Tokens: signed, with an end, and for this server.
 *
 * The work is `jose`'s. Here are the choices: which algorithms a kind of key can have, so that no
 * token chooses; that a token must end; which failure is the client's and which is the server's. A
 * client hears one of three codes and never why.
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
 * What a token says; its signature, times, issuer and audience are checked already.
 *
 * @category models
 * @since 0.1.0
 */
export type Claims = JWTPayload

/**
 * What the claim `iss` or `aud` must be: the text, or one of the texts.
 *
 * @category models
 * @since 0.1.0
 */
export type Expected = string | ReadonlyArray<string>

/**
 * The keys that tokens are signed with, and what belongs to them.
 *
 * @category models
 * @since 0.1.0
 */
export type Keys =
  | {
      /**
       * A secret that both sides know, at least as long as its hash: 32 bytes for HS256. Text is taken
       * as its UTF-8 bytes.
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
       * The `https` address of a key set, or the key set. What is fetched is kept for 10 minutes; an
       * unknown key makes it look again, at most every 30 s. A fetch has 3 s.
       */
      readonly keys: string | URL | JSONWebKeySet
      /** Default: every algorithm with a key pair; the key set says which key has which. */
      readonly algorithms?: ReadonlyArray<PublicAlgorithm> | undefined
      /** An identity provider signs for everybody who uses it, so `"any"` must be written out. */
      readonly issuer: Expected | "any"
      /** See `issuer`. */
      readonly audience: Expected | "any"
    }

/**
 * What holds for every kind of key.
 *
 * @category models
 * @since 0.1.0
 */
export interface Common {
  /** How far the clocks of the issuer and of this server may differ, default 5 s. */
  readonly clockTolerance?: Duration.Input | undefined
  /** How long after its claim `iat` a token is taken at most, default as long as it says itself. */
  readonly maxAge?: Duration.Input | undefined
  /** A cookie that holds the token when the client brings none; as it was at the upgrade. */
  readonly cookie?: string | undefined
}

/**
 * The claims that say who somebody is: a Schema, or a function, of a type that is known. Unless that is
 * text, the server asks for `identityKey`, which must be the same for every token of one person: `sub`,
 * never `jti` or a role. Claims that do not match the Schema are `auth/invalid`.
 *
 * @category models
 * @since 0.1.0
 */
export type Identity<I, R = never> =
  | Schema.ConstraintDecoder<I, R>
  | ((claims: Claims) => I | Effect.Effect<I, AuthRefused, R>)

/**
 * @category models
 * @since 0.1.0
 */
export type Options<I, R = never> = Common & Keys & { readonly identity: Identity<I, R> }

/**
 * An identity of a known type: of another one the server could not tell whether it is text, so it would
 * ask for no key.
 *
 * @category models
 * @since 0.1.0
 */
export type Known<I> = unknown extends I
  ? { readonly identity: (claims: Claims) => never }
  : unknown

/**
 * An `authenticate` that takes JSON Web Tokens. More than a function, because TypeScript does not look
 * into a generic call that gives a bare one: `authorize` beside it would not know the identity.
 *
 * @category models
 * @since 0.1.0
 */
export type Authenticate<I, R = never> = Server.Authenticate<I, R> & {
  /** What it takes. */
  readonly algorithms: ReadonlyArray<string>
}

/** The last moment that a `Date` knows, in milliseconds. */
const endOfTime = 8.64e15

/**
 * Makes an `authenticate` that takes JSON Web Tokens. Without `identity` it is the claim `sub`.
 *
 * An expired token is `auth/expired`, no token is `auth/required`, anything else about a token is
 * `auth/invalid`: the signature, the issuer, the audience, an algorithm that is not allowed, no `exp`.
 * When keys cannot be fetched, that is logged and the client is answered `server/internal`.
 *
 * Throws `InvalidOption` when keys and algorithms do not go together, because a configuration is code.
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
            : new AuthRefused({
                code: error instanceof JWTExpired ? "auth/expired" : "auth/invalid"
              })
        )
      )
      const { exp = 0, iat = 0 } = payload
      const ends = Math.min(exp, maxAge === undefined ? Infinity : iat + maxAge) + tolerance
      const identity = yield* identify(payload)
      return { identity, expires: new Date(Math.min(ends * 1000, endOfTime)) }
    })
  return Object.assign(check, { algorithms })
  // Which signature holds is decided by `identity`, which the implementation cannot say.
}) as never

const seconds = (name: string, input: Duration.Input, least: number): number =>
  millis(`jwt.${name}`, input, { least }) / 1000

/** A token without a subject is for nobody. */
const subject = ({ sub }: Claims): Effect.Effect<string, AuthRefused> =>
  sub === undefined || sub === ""
    ? Effect.fail(new AuthRefused({ code: "auth/invalid" }))
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

/** The first cookie of a name. */
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
