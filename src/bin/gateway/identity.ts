/** How the gateway authenticates: by JSON Web Tokens, and where a channel allows it without any. */
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { randomUUID } from "node:crypto"
import * as Jwt from "../../server/Jwt.ts"
import { AuthRefused, type Authenticate } from "../../server/ServerOptions.ts"
import type { Client } from "./access.ts"
import * as Config from "./config.ts"

const invalid = (reason: string, where = "jwt") => new Config.InvalidGateway({ where, reason })

/** HS256 needs that many bytes. */
const leastSecret = 32

/** Says what is wrong in the words of the file. */
const inWords = (where: string, reason: string, make: () => Authenticate<Client>) => {
  try {
    return make()
  } catch {
    throw invalid(reason, where)
  }
}

/** A client without a token is a user of its own. */
const anonymous = Effect.sync(() => ({
  identity: { key: `anonymous ${randomUUID()}`, claims: undefined }
}))

const clientOf = (claims: Jwt.Claims): Client | Effect.Effect<never, AuthRefused> =>
  claims.sub === undefined || claims.sub === ""
    ? Effect.fail(new AuthRefused({ code: "auth/invalid" }))
    : { key: claims.sub, claims }

const checked = (jwt: Config.Jwt): Authenticate<Client> => {
  const { audience, cookie, issuer, keys, secret } = jwt
  const common = { cookie, identity: clientOf }
  if (secret !== undefined && keys === undefined) {
    const bytes = Buffer.byteLength(Redacted.value(secret))
    if (bytes < leastSecret) {
      throw invalid(
        `The secret of REALTIME_JWT_SECRET or the file has ${bytes} bytes, and needs ${leastSecret} bytes or more. Make one with: openssl rand -hex 32`,
        "jwt.secret"
      )
    }
    return Jwt.authenticate<Client>({ ...common, keys: secret, issuer, audience })
  }
  if (keys === undefined || secret !== undefined) {
    throw invalid(`Give either "secret", of 32 bytes or more, or "keys", the address of a key set.`)
  }
  if (issuer === undefined || audience === undefined) {
    const cure = `Give the ones of your application, or "any".`
    throw invalid(`A key set needs "issuer" and "audience". ${cure}`)
  }
  const named = (text: typeof issuer) => (text === "any" ? ("any" as const) : text)
  return inWords(
    "jwt.keys",
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
export const authenticator = (jwt: Config.Jwt | undefined): Authenticate<Client> => {
  if (jwt === undefined) return () => anonymous
  const authenticate = checked(jwt)
  return (credentials) =>
    authenticate(credentials).pipe(
      Effect.catchIf(
        ({ code }) => code === "auth/required",
        () => anonymous
      )
    )
}
