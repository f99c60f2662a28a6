/**
 * The keys that verify tokens: the algorithms of each kind of key, and where key sets are fetched.
 */
import * as Redacted from "effect/Redacted"
import { JWKSMultipleMatchingKeys, JWKSNoMatchingKey } from "jose/errors"
import { createLocalJWKSet } from "jose/jwks/local"
import { createRemoteJWKSet, customFetch } from "jose/jwks/remote"
import type { JSONWebKeySet, JWK } from "jose"
import type { JWTVerifyGetKey } from "jose/jwt/verify"
import { createPublicKey, createSecretKey, KeyObject } from "node:crypto"
import { errorText } from "../../../internal/errorText.ts"
import { InvalidOption } from "../options.ts"

/** Whether the host of a URL is this machine. */
const isLoopbackHost = (host: string): boolean =>
  host === "localhost" || host === "[::1]" || /^127\.\d+\.\d+\.\d+$/.test(host)

/** Algorithms with one secret that issuer and server share. */
export type SecretAlgorithm = "HS256" | "HS384" | "HS512"

/** Algorithms with a key pair: this server needs only the public key. */
export type PublicAlgorithm =
  | "RS256"
  | "RS384"
  | "RS512"
  | "PS256"
  | "PS384"
  | "PS512"
  | "ES256"
  | "ES384"
  | "ES512"
  | "EdDSA"
  | "Ed25519"

/** The algorithms with which a token may be signed. */
export type Algorithm = PublicAlgorithm | SecretAlgorithm

/** The forms in which an application may give its keys. */
export type Material =
  | Redacted.Redacted<string>
  | Redacted.Redacted<Uint8Array>
  | KeyObject
  | JWK
  | JSONWebKeySet
  | string
  | URL

/** The key set could not be fetched: a fault of the server, not of the client. */
export class KeysUnavailable extends Error {
  readonly _tag = "KeysUnavailable"
  constructor(reason: string, cause: unknown) {
    super(
      `The key set could not be fetched: ${reason}. Check that this node reaches the address of jwt.keys, and that it answers with a JSON Web Key Set. Clients are asked to try again`,
      { cause }
    )
  }
}

/** Why a fetch failed, without its address. */
const reasonOf = (error: unknown): string => {
  const { cause } = error instanceof Error ? error : {}
  const code = cause instanceof Error && "code" in cause ? String(cause.code) : undefined
  return code ?? errorText(error)
}

export interface Usable {
  readonly find: JWTVerifyGetKey
  /** The algorithms that these keys support, so that a token cannot choose another. */
  readonly possible: ReadonlyArray<Algorithm>
  /** The algorithms without the option `algorithms`. */
  readonly usual: ReadonlyArray<Algorithm>
  /** The length of a secret, in bytes. */
  readonly secretBytes?: number
}

/** Milliseconds for a fetch of a key set: well within the limit `authorizeTimeout`. */
const fetchMillis = 3000
/** Milliseconds between two fetches after one failed: otherwise each client would cause one. */
const restMillis = 1000

const rsaPss = ["PS256", "PS384", "PS512"] as const
const rsa = ["RS256", "RS384", "RS512", ...rsaPss] as const
const edwards = ["EdDSA", "Ed25519"] as const
const elliptic: Readonly<Record<string, PublicAlgorithm>> = {
  prime256v1: "ES256",
  secp384r1: "ES384",
  secp521r1: "ES512"
}
const anyPublic = [...rsa, ...Object.values(elliptic), ...edwards]
const secret: ReadonlyArray<SecretAlgorithm> = ["HS256", "HS384", "HS512"]
const hashBytes: Readonly<Record<string, number>> = { HS256: 32, HS384: 48, HS512: 64 }

const invalid = (option: string, value: string, expected: string): InvalidOption =>
  new InvalidOption({ option: `jwt.${option}`, value, expected })

/** Reads the option `keys`. Throws `InvalidOption` if they are not valid. */
export const keysOf = (keys: Material): Usable => {
  if (Redacted.isRedacted(keys)) {
    const value = Redacted.value<unknown>(keys)
    if (typeof value === "string" || value instanceof Uint8Array) {
      return secretKey(createSecretKey(typeof value === "string" ? Buffer.from(value) : value))
    }
    throw invalid("keys", "redacted", "a secret of text or bytes")
  }
  if (typeof keys === "string" || keys instanceof URL) return remote(keys)
  if (keys instanceof KeyObject) {
    return keys.type === "secret" ? secretKey(keys) : publicKey(() => keys)
  }
  if ("keys" in keys && Array.isArray(keys.keys)) {
    const set = or("a JSON Web Key Set", () => createLocalJWKSet({ keys: keys.keys }))
    return { find: set, possible: anyPublic, usual: anyPublic }
  }
  if (!("kty" in keys)) throw invalid("keys", "something else", "a key, a key set or its address")
  return keys.kty === "oct"
    ? secretKey(createSecretKey(Buffer.from(String(keys.k ?? ""), "base64url")))
    : publicKey(() => createPublicKey({ key: { ...keys }, format: "jwk" }))
}

/** The accepted algorithms. Throws `InvalidOption` for one that the keys lack, and for a short secret. */
export const checkAlgorithms = (
  { possible, secretBytes, usual }: Usable,
  wanted: ReadonlyArray<Algorithm> | undefined
): ReadonlyArray<Algorithm> => {
  const algorithms = wanted ?? usual
  const wrong = algorithms.find((algorithm) => !possible.includes(algorithm))
  if (algorithms.length === 0 || wrong !== undefined) {
    throw invalid("algorithms", wrong ?? "empty", `of ${possible.join(", ")} with these keys`)
  }
  const least = Math.max(...algorithms.map((algorithm) => hashBytes[algorithm] ?? 0))
  if (secretBytes !== undefined && secretBytes < least) {
    throw invalid(
      "keys",
      `${secretBytes} bytes`,
      `at least ${least} bytes for ${algorithms.join()}`
    )
  }
  return algorithms
}

const or = <A>(expected: string, make: () => A): A => {
  try {
    return make()
  } catch {
    // The parser's message may contain parts of the key.
    throw invalid("keys", "something else", expected)
  }
}

const secretKey = (key: KeyObject): Usable => ({
  find: () => key,
  possible: secret,
  usual: ["HS256"],
  secretBytes: key.symmetricKeySize ?? 0
})

const publicKey = (make: () => KeyObject): Usable => {
  // Only the public half of a private key is needed.
  const key = or("a public key", () => {
    const made = make()
    return made.type === "private" ? createPublicKey(made) : made
  })
  const possible = algorithmsOf(key)
  if (possible.length > 0) return { find: () => key, possible, usual: possible }
  throw invalid(
    "keys",
    String(key.asymmetricKeyType),
    "an RSA, EC (P-256, P-384, P-521) or Ed25519 key"
  )
}

const algorithmsOf = ({
  asymmetricKeyDetails,
  asymmetricKeyType
}: KeyObject): ReadonlyArray<Algorithm> => {
  switch (asymmetricKeyType) {
    case "rsa":
      return rsa
    case "rsa-pss":
      return rsaPss
    case "ed25519":
      return edwards
    case "ec": {
      const algorithm = elliptic[asymmetricKeyDetails?.namedCurve ?? ""]
      return algorithm === undefined ? [] : [algorithm]
    }
    default:
      return []
  }
}

const remote = (address: string | URL): Usable => {
  const url = URL.canParse(String(address)) ? new URL(address) : undefined
  // An attacker that changes the response can forge tokens.
  if (url?.protocol !== "https:" && !(url?.protocol === "http:" && isLoopbackHost(url.hostname))) {
    // Not repeated: the text may be a misplaced secret.
    throw invalid("keys", "text", "the https address of a key set; a secret is a Redacted")
  }
  let restUntil = 0
  const find = createRemoteJWKSet(url, {
    timeoutDuration: fetchMillis,
    [customFetch]: async (resource, options) => {
      if (performance.now() < restUntil) throw new Error("it failed a moment ago")
      restUntil = performance.now() + restMillis
      const response = await fetch(resource, options)
      if (response.status === 200) restUntil = 0
      return response
    }
  })
  return {
    possible: anyPublic,
    usual: anyPublic,
    find: async (header, token) => {
      try {
        return await find(header, token)
      } catch (error) {
        const unknown =
          error instanceof JWKSNoMatchingKey || error instanceof JWKSMultipleMatchingKeys
        if (unknown) throw error
        throw new KeysUnavailable(reasonOf(error), error)
      }
    }
  }
}
