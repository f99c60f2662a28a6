/** How the gateway authenticates: by JSON Web Tokens, and where a channel allows it without any. */
import * as Effect from "effect/Effect"
import { randomUUID } from "node:crypto"
import * as Jwt from "../../server/Jwt.ts"
import { AuthRefused, type Authenticate } from "../../server/ServerOptions.ts"
import type { Client } from "./access.ts"
import * as Config from "./config.ts"

const invalid = (reason: string) => new Config.InvalidGateway({ where: "jwt", reason })

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
  return Jwt.authenticate<Client>({
    ...common,
    keys,
    issuer: named(issuer),
    audience: named(audience)
  })
}

/** Finds the client of a token. Without one it is anonymous. Throws `InvalidGateway` and `InvalidOption`. */
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
