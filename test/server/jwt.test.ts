import { describe, expect, it } from "@effect/vitest"
import { Cause, Effect, Exit, Redacted, Schedule, Schema, SchemaGetter } from "effect"
import { TestClock } from "effect/testing"
import { exportJWK, type JWK, type JWTPayload, SignJWT } from "jose"
import { createPublicKey, generateKeyPairSync, type KeyObject } from "node:crypto"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import * as Jwt from "../../src/server/Jwt.ts"
import { AuthRefused, type Authenticate, type Credentials } from "../../src/server/ServerOptions.ts"

const secret = Buffer.from("0123456789abcdef0123456789abcdef")
const keys = Redacted.make(new Uint8Array(secret))
const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 })
const ec = generateKeyPairSync("ec", { namedCurve: "P-256" })
const ed = generateKeyPairSync("ed25519")

type Signer = KeyObject | Uint8Array

/** Signs claims that expire by default an hour after time 0. */
const sign = (
  claims: { readonly [name: string]: unknown },
  { alg = "HS256", key = secret, kid }: { alg?: string; key?: Signer; kid?: string } = {}
) =>
  Effect.promise(() =>
    new SignJWT({ sub: "ann", exp: 3600, ...claims })
      .setProtectedHeader({ alg, ...(kid === undefined ? {} : { kid }) })
      .sign(key)
  )

const credentials = (token: string | undefined, cookie?: string): Credentials => ({
  token,
  headers: cookie === undefined ? {} : { cookie },
  address: "203.0.113.7"
})

/** The result of authenticating a token: the identity with its end, or the code. */
const ask = <I>(
  authenticate: Authenticate<I>,
  token: string | undefined,
  cookie?: string
): Effect.Effect<unknown> =>
  Effect.match(authenticate(credentials(token, cookie)), {
    onFailure: ({ code }) => code,
    onSuccess: ({ expires, identity }) => ({ identity, expires: expires?.getTime() })
  })

const optionFault = (options: Jwt.Common & Jwt.Keys): string => {
  try {
    Jwt.authenticate(options)
    return "none"
  } catch (error) {
    return (error as Error).message
  }
}

describe("jwt with a secret", () => {
  it.effect("a valid token gives its subject and expiry, extended by the clock tolerance", () =>
    Effect.gen(function* () {
      const authenticate = Jwt.authenticate({ keys })
      const token = yield* sign({})
      expect(yield* ask(authenticate, token)).toEqual({ identity: "ann", expires: 3_605_000 })
    })
  )

  it.effect("a secret may be text", () =>
    Effect.gen(function* () {
      const authenticate = Jwt.authenticate({ keys: Redacted.make(secret.toString()) })
      expect(yield* ask(authenticate, yield* sign({}))).toMatchObject({ identity: "ann" })
    })
  )

  it.effect("a missing token is rejected with auth/required", () =>
    Effect.gen(function* () {
      expect(yield* ask(Jwt.authenticate({ keys }), undefined)).toBe("auth/required")
      expect(yield* ask(Jwt.authenticate({ keys }), "")).toBe("auth/required")
    })
  )

  it.effect("an expired token is rejected with auth/expired after the clock tolerance", () =>
    Effect.gen(function* () {
      const authenticate = Jwt.authenticate({ keys, clockTolerance: "10 seconds" })
      const token = yield* sign({ exp: 100 })
      yield* TestClock.setTime(109_000)
      expect(yield* ask(authenticate, token)).toEqual({ identity: "ann", expires: 110_000 })
      yield* TestClock.setTime(110_000)
      expect(yield* ask(authenticate, token)).toBe("auth/expired")
    })
  )

  it.effect("a token older than maxAge is rejected with auth/expired", () =>
    Effect.gen(function* () {
      const authenticate = Jwt.authenticate({ keys, clockTolerance: 0, maxAge: "1 minute" })
      const token = yield* sign({ iat: 10 })
      yield* TestClock.setTime(69_000)
      expect(yield* ask(authenticate, token)).toEqual({ identity: "ann", expires: 70_000 })
      yield* TestClock.setTime(71_000)
      expect(yield* ask(authenticate, token)).toBe("auth/expired")
      expect(yield* ask(authenticate, yield* sign({}))).toBe("auth/invalid")
    })
  )

  const bad: ReadonlyArray<readonly [string, (good: string) => Effect.Effect<string>]> = [
    ["text", () => Effect.succeed("not a token")],
    ["of three parts", () => Effect.succeed("a.b.c")],
    ["of another secret", () => sign({}, { key: Buffer.alloc(32, 7) })],
    ["of an algorithm that is not allowed", () => sign({}, { alg: "HS384" })],
    ["of a public key", () => sign({}, { alg: "RS256", key: rsa.privateKey })],
    ["without an end", () => sign({ exp: undefined })],
    ["with an end that is text", () => sign({ exp: "3600" })],
    ["that is not valid yet", () => sign({ nbf: 1000 })],
    ["without a subject", () => sign({ sub: undefined })],
    ["with changed claims", (good) => Effect.sync(() => withClaims(good, { sub: "bob" }))],
    ["with alg none", (good) => Effect.sync(() => unsigned(good))],
    ["with alg none and a signature", (good) => Effect.sync(() => unsigned(good, true))],
    [
      "with a critical extension",
      (good) => Effect.sync(() => withHeader(good, { crit: ["x"], x: 1 }))
    ],
    ["of 100 kB", (good) => Effect.succeed(`${good}${"A".repeat(100_000)}`)]
  ]
  it.effect.each(bad)("a token %s is rejected with auth/invalid", ([, make]) =>
    Effect.gen(function* () {
      expect(yield* ask(Jwt.authenticate({ keys }), yield* make(yield* sign({})))).toBe(
        "auth/invalid"
      )
    })
  )

  it.effect("a token with another issuer or audience than the options is rejected", () =>
    Effect.gen(function* () {
      const authenticate = Jwt.authenticate({
        keys,
        issuer: "https://id",
        audience: ["web", "app"]
      })
      const take = (claims: JWTPayload) =>
        Effect.flatMap(sign(claims), (token) => ask(authenticate, token))
      expect(yield* take({ iss: "https://id", aud: "app" })).toMatchObject({ identity: "ann" })
      expect(yield* take({ iss: "https://id", aud: ["x", "web"] })).toMatchObject({
        identity: "ann"
      })
      expect(yield* take({ iss: "https://evil", aud: "app" })).toBe("auth/invalid")
      expect(yield* take({ iss: "https://id", aud: "other" })).toBe("auth/invalid")
      expect(yield* take({ iss: "https://id" })).toBe("auth/invalid")
      expect(yield* take({ aud: "app" })).toBe("auth/invalid")
    })
  )

  it.effect("a cookie is read if the option names it and the client sent no token", () =>
    Effect.gen(function* () {
      const ann = yield* sign({})
      const bob = yield* sign({ sub: "bob" })
      const authenticate = Jwt.authenticate({ keys, cookie: "session" })
      expect(yield* ask(authenticate, undefined, `a=1; session=${ann}; b=2`)).toMatchObject({
        identity: "ann"
      })
      expect(yield* ask(authenticate, undefined, `session="${ann}"`)).toMatchObject({
        identity: "ann"
      })
      expect(yield* ask(authenticate, bob, `session=${ann}`)).toMatchObject({ identity: "bob" })
      expect(yield* ask(authenticate, undefined, `xsession=${ann}; session`)).toBe("auth/required")
      expect(yield* ask(Jwt.authenticate({ keys }), undefined, `session=${ann}`)).toBe(
        "auth/required"
      )
    })
  )
})

describe("jwt with an identity", () => {
  const Person = Schema.Struct({
    sub: Schema.NonEmptyString,
    role: Schema.Literals(["admin", "user"])
  })

  it.effect("an identity Schema decodes the claims, drops others, and may reject", () =>
    Effect.gen(function* () {
      const authenticate = Jwt.authenticate({ keys, identity: Person })
      expect(yield* ask(authenticate, yield* sign({ role: "admin", jti: "1" }))).toMatchObject({
        identity: { sub: "ann", role: "admin" }
      })
      expect(yield* ask(authenticate, yield* sign({ role: "root" }))).toBe("auth/invalid")
    })
  )

  it.effect("an identity Schema may transform the claims", () =>
    Effect.gen(function* () {
      const Upper = Schema.Struct({ sub: Schema.String }).pipe(
        Schema.decodeTo(Schema.String, {
          decode: SchemaGetter.transform(({ sub }: { readonly sub: string }) => sub.toUpperCase()),
          encode: SchemaGetter.transform((sub: string) => ({ sub }))
        })
      )
      expect(
        yield* ask(Jwt.authenticate({ keys, identity: Upper }), yield* sign({}))
      ).toMatchObject({
        identity: "ANN"
      })
    })
  )

  it.effect("an identity function may return a value, an Effect or a failure", () =>
    Effect.gen(function* () {
      const token = yield* sign({ uid: 7 })
      const value = Jwt.authenticate({ keys, identity: ({ uid }) => ({ id: Number(uid) }) })
      expect(yield* ask(value, token)).toMatchObject({ identity: { id: 7 } })
      const effect = Jwt.authenticate({ keys, identity: ({ uid }) => Effect.succeed(Number(uid)) })
      expect(yield* ask(effect, token)).toMatchObject({ identity: 7 })
      const refusal = Jwt.authenticate({
        keys,
        identity: () => Effect.fail(new AuthRefused({ code: "auth/invalid" }))
      })
      expect(yield* ask(refusal, token)).toBe("auth/invalid")
    })
  )
})

describe("jwt with a public key", () => {
  const material: ReadonlyArray<readonly [string, KeyObject, KeyObject]> = [
    ["RS256", rsa.publicKey, rsa.privateKey],
    ["PS512", rsa.publicKey, rsa.privateKey],
    ["ES256", ec.publicKey, ec.privateKey],
    ["EdDSA", ed.publicKey, ed.privateKey]
  ]
  it.effect.each(material)("%s verifies with a KeyObject, a PEM or a JWK", ([alg, pub, key]) =>
    Effect.gen(function* () {
      const token = yield* sign({}, { alg, key })
      const pem = createPublicKey(pub.export({ type: "spki", format: "pem" }))
      const jwk = yield* Effect.promise(() => exportJWK(pub))
      for (const keys of [pub, pem, jwk]) {
        expect(yield* ask(Jwt.authenticate({ keys }), token)).toMatchObject({ identity: "ann" })
      }
    })
  )

  it.effect("a private key as option verifies by its public half", () =>
    Effect.gen(function* () {
      const token = yield* sign({}, { alg: "ES256", key: ec.privateKey })
      expect(yield* ask(Jwt.authenticate({ keys: ec.privateKey }), token)).toMatchObject({
        identity: "ann"
      })
    })
  )

  it.effect("a public key never verifies as a secret, nor for an algorithm it cannot have", () =>
    Effect.gen(function* () {
      const pem = rsa.publicKey.export({ type: "spki", format: "pem" }).toString()
      const forged = yield* sign({}, { key: Buffer.from(pem) })
      const other = yield* sign({}, { alg: "ES256", key: ec.privateKey })
      expect(yield* ask(Jwt.authenticate({ keys: rsa.publicKey }), forged)).toBe("auth/invalid")
      expect(yield* ask(Jwt.authenticate({ keys: rsa.publicKey }), other)).toBe("auth/invalid")
      const narrow = Jwt.authenticate({ keys: rsa.publicKey, algorithms: ["PS256"] })
      const wide = yield* sign({}, { alg: "RS256", key: rsa.privateKey })
      expect(yield* ask(narrow, wide)).toBe("auth/invalid")
    })
  )
})

describe("jwt with a key set", () => {
  const any = { issuer: "any", audience: "any" } as const
  const jwkOf = (key: KeyObject, kid: string) =>
    Effect.map(
      Effect.promise(() => exportJWK(key)),
      (jwk): JWK => ({ ...jwk, kid, use: "sig" })
    )

  /** An identity provider that answers as its state says, and counts. */
  const provider = Effect.gen(function* () {
    const state = { status: 200, body: "{}", asked: 0, hang: false }
    const server = yield* Effect.acquireRelease(
      Effect.callback<ReturnType<typeof createServer>>((resume) => {
        const server = createServer((_, response) => {
          state.asked++
          if (!state.hang) response.writeHead(state.status).end(state.body)
        }).listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
      }),
      (server) =>
        Effect.sync(() => {
          server.close()
          server.closeAllConnections()
        })
    )
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/jwks.json`
    const publish = (...keys: ReadonlyArray<JWK>) => {
      state.body = JSON.stringify({ keys })
    }
    return { state, publish, url }
  })

  const soon = Effect.sync(() => Math.floor(Date.now() / 1000) + 3600)

  it.effect("the key is found in the set by its id", () =>
    Effect.gen(function* () {
      const set = {
        keys: [yield* jwkOf(rsa.publicKey, "old"), yield* jwkOf(ec.publicKey, "new")]
      }
      const authenticate = Jwt.authenticate({ keys: set, ...any })
      const ask_ = (alg: string, key: Signer, kid: string) =>
        Effect.flatMap(sign({}, { alg, key, kid }), (token) => ask(authenticate, token))
      expect(yield* ask_("RS256", rsa.privateKey, "old")).toMatchObject({ identity: "ann" })
      expect(yield* ask_("ES256", ec.privateKey, "new")).toMatchObject({ identity: "ann" })
      expect(yield* ask_("RS256", rsa.privateKey, "none")).toBe("auth/invalid")
      expect(yield* ask_("HS256", secret, "old")).toBe("auth/invalid")
    })
  )

  it.live("a key set is fetched once, even under many tokens with unknown keys", () =>
    Effect.gen(function* () {
      const { publish, state, url } = yield* provider
      publish(yield* jwkOf(rsa.publicKey, "a"))
      const authenticate = Jwt.authenticate({ keys: url, ...any })
      const exp = yield* soon
      const good = yield* sign({ exp }, { alg: "RS256", key: rsa.privateKey, kid: "a" })
      const unknown = yield* sign({ exp }, { alg: "RS256", key: rsa.privateKey, kid: "b" })
      const all = Array.from({ length: 20 }, () => ask(authenticate, good))
      yield* Effect.all(all, { concurrency: "unbounded" })
      expect(yield* ask(authenticate, good)).toMatchObject({ identity: "ann" })
      for (let n = 0; n < 20; n++) {
        expect(yield* ask(authenticate, unknown)).toBe("auth/invalid")
      }
      expect(state.asked).toBe(1)
    })
  )

  it.live(
    "a key set that cannot be fetched is a defect, not a verdict, and is not fetched again for 1 s",
    () =>
      Effect.gen(function* () {
        const { publish, state, url } = yield* provider
        const authenticate = Jwt.authenticate({ keys: url, ...any })
        const exp = yield* soon
        const token = yield* sign({ exp }, { alg: "RS256", key: rsa.privateKey, kid: "a" })
        for (const status of [500, 302, 404]) {
          state.status = status
          const exit = yield* Effect.exit(authenticate(credentials(token)))
          expect(Exit.isFailure(exit) && Cause.hasDies(exit.cause)).toBe(true)
        }
        expect(state.asked).toBe(1)
        state.status = 200
        publish(yield* jwkOf(rsa.publicKey, "a"))
        // After the failure is 1 s old.
        const { identity } = yield* Effect.retry(
          Effect.sandbox(authenticate(credentials(token))),
          Schedule.spaced("50 millis")
        )
        expect(identity).toBe("ann")
        expect(state.asked).toBe(2)
      }).pipe(Effect.scoped)
  )

  it.live("fetching a key set is given up within 4.5 s when the provider hangs", () =>
    Effect.gen(function* () {
      const { state, url } = yield* provider
      state.hang = true
      const token = yield* sign(
        { exp: yield* soon },
        { alg: "RS256", key: rsa.privateKey, kid: "a" }
      )
      const before = performance.now()
      const exit = yield* Effect.exit(Jwt.authenticate({ keys: url, ...any })(credentials(token)))
      expect(Exit.isFailure(exit) && Cause.hasDies(exit.cause)).toBe(true)
      expect(performance.now() - before).toBeLessThan(4500)
    }).pipe(Effect.scoped)
  )

  it.live("a key set is not fetched for a token without an allowed algorithm", () =>
    Effect.gen(function* () {
      const { state, url } = yield* provider
      const authenticate = Jwt.authenticate({ keys: url, ...any })
      expect(yield* ask(authenticate, "a.b.c")).toBe("auth/invalid")
      expect(yield* ask(authenticate, yield* sign({}))).toBe("auth/invalid")
      expect(yield* ask(authenticate, unsigned(yield* sign({})))).toBe("auth/invalid")
      expect(state.asked).toBe(0)
    }).pipe(Effect.scoped)
  )
})

describe("Invalid options of jwt", () => {
  const any = { issuer: "any", audience: "any" } as const
  const wrong: ReadonlyArray<readonly [string, Jwt.Common & Jwt.Keys, RegExp]> = [
    ["with a short secret", { keys: Redacted.make("short") }, /5 bytes.*32 bytes/],
    [
      "with a secret too short for its hash",
      { keys, algorithms: ["HS256", "HS512"] },
      /32 bytes.*64 bytes/
    ],
    ["with a secret of nothing", { keys: { kty: "oct", k: "" } }, /32 bytes/],
    ["with a secret that is not redacted", { keys: secret.toString(), ...any }, /Redacted/],
    ["with a key set over http", { keys: "http://id.example/jwks", ...any }, /https/],
    ["with a key set from a file", { keys: new URL("file:///etc/jwks"), ...any }, /https/],
    ["with rubbish for a key", { keys: { kty: "RSA", n: "x" } }, /public key/],
    ["with rubbish for a key set", { keys: { keys: [1] }, ...any } as never, /Key Set/],
    ["with no algorithm", { keys, algorithms: [] }, /algorithms/],
    ["with the algorithm none", { keys, algorithms: ["none"] } as never, /algorithms.*none/],
    ["with a public algorithm for a secret", { keys, algorithms: ["RS256"] } as never, /RS256/],
    ["with HS256 for a public key", { keys: rsa.publicKey, algorithms: ["HS256"] }, /HS256/],
    ["with ES384 for a key of P-256", { keys: ec.publicKey, algorithms: ["ES384"] }, /ES384/],
    [
      "with a tolerance that is no time",
      { keys, clockTolerance: "soon" as never },
      /clockTolerance/
    ]
  ]
  it.each(wrong)("jwt throws at once %s", (_, options, message) => {
    expect(optionFault(options)).toMatch(message)
  })

  it("the errors of jwt never repeat a secret", () => {
    const hidden = "a secret that slipped in"
    expect(optionFault({ keys: hidden, ...any })).not.toContain("slipped")
    expect(optionFault({ keys: Redacted.make("slipped") })).not.toContain("slipped")
  })
})

// -----------------------------------------------------------------------------------------------
// forgeries

const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url")
const decode = (part: string) => JSON.parse(Buffer.from(part, "base64url").toString()) as object

const withClaims = (token: string, more: object): string => {
  const [head, claims, signature] = token.split(".") as [string, string, string]
  return [head, encode({ ...decode(claims), ...more }), signature].join(".")
}

const withHeader = (token: string, more: object): string => {
  const [head, claims, signature] = token.split(".") as [string, string, string]
  return [encode({ ...decode(head), ...more }), claims, signature].join(".")
}

const unsigned = (token: string, keep = false): string => {
  const [, claims, signature] = token.split(".") as [string, string, string]
  return [encode({ alg: "none" }), claims, keep ? signature : ""].join(".")
}
