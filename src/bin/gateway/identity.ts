/** How the gateway authenticates: by JSON Web Tokens, and where a channel allows it without any. */
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { randomUUID } from "node:crypto"
import { missingClaim } from "../../server/internal/auth/jwtFaults.ts"
import * as Jwt from "../../server/Jwt.ts"
import { AuthRefused, type Authenticate } from "../../server/ServerOptions.ts"
import type { Client } from "./access.ts"
import * as Config from "./config.ts"

/** The flag, the variable, or the key with its file. */
type PlaceOf = (key: string) => string

/** HS256 needs that many bytes. */
const leastSecret = 32

/** Says what is wrong in the words of the file. */
const inWords = (where: string, reason: string, make: () => Authenticate<Client>) => {
  try {
    return make()
  } catch {
    throw new Config.InvalidGateway({ where, reason })
  }
}

/** A client without a token is a user of its own. */
const anonymous = Effect.sync(() => ({
  identity: { key: `anonymous ${randomUUID()}`, claims: undefined }
}))

const clientOf = (claims: Jwt.Claims): Client | Effect.Effect<never, AuthRefused> =>
  claims.sub === undefined || claims.sub === ""
    ? Effect.fail(new AuthRefused({ code: "auth/invalid", why: missingClaim("sub") }))
    : { key: claims.sub, claims }

const checked = (jwt: Config.Jwt, placeOf: PlaceOf): Authenticate<Client> => {
  const { audience, cookie, issuer, keys, secret } = jwt
  const invalid = (key: string, reason: string) =>
    new Config.InvalidGateway({ where: placeOf(key), reason })
  const common = { cookie, identity: clientOf }
  if (secret !== undefined && keys === undefined) {
    const bytes = Buffer.byteLength(Redacted.value(secret))
    if (bytes < leastSecret) {
      throw invalid(
        "jwt.secret",
        `The secret has ${bytes} bytes, and needs ${leastSecret} bytes or more. Make one with: openssl rand -hex 32`
      )
    }
    return Jwt.authenticate<Client>({ ...common, keys: secret, issuer, audience })
  }
  if (keys !== undefined && secret !== undefined) {
    throw invalid("jwt.keys", `${placeOf("jwt.secret")} gives a secret too. Give one of the two.`)
  }
  if (keys === undefined) {
    throw new Config.InvalidGateway({
      where: placeOf(Object.keys(jwt).map((key) => `jwt.${key}`)[0] ?? "jwt"),
      reason:
        "Nothing says what tokens are signed with. Give a secret of 32 bytes or more in REALTIME_JWT_SECRET (in the file jwt.secret), or the address of a key set with --jwt-keys (jwt.keys)."
    })
  }
  if (issuer === undefined || audience === undefined) {
    throw invalid(
      "jwt.keys",
      "A key set signs tokens for other applications too. Give the issuer and the audience of yours with --jwt-issuer and --jwt-audience (in the file jwt.issuer and jwt.audience), or any."
    )
  }
  const named = (text: typeof issuer) => (text === "any" ? ("any" as const) : text)
  return inWords(
    placeOf("jwt.keys"),
    "It is no https address of a key set. Give the one of your identity provider, such as https://id.example.com/.well-known/jwks.json.",
    () =>
      Jwt.authenticate<Client>({
        ...common,
        keys,
        issuer: named(issuer),
        audience: named(audience)
      })
  )
}

/** Finds the client of a token. Without one it is anonymous. Throws `InvalidGateway`. */
export const authenticator = (
  jwt: Config.Jwt | undefined,
  placeOf: PlaceOf = (key) => key
): Authenticate<Client> => {
  if (jwt === undefined) return () => anonymous
  const authenticate = checked(jwt, placeOf)
  return (credentials) =>
    authenticate(credentials).pipe(
      Effect.catchIf(
        ({ code }) => code === "auth/required",
        () => anonymous
      )
    )
}
