/** The certificates of a URL are checked when it is parsed, before any server answers. */
import { PgConnection } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Redacted, Result } from "effect"
import { execFileSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Os from "node:os"
import * as Path from "node:path"
import { afterAll, beforeAll } from "vitest"
import { address, secured } from "../../src/server/internal/link/pgLink.ts"
import { Negotiated } from "../../src/server/internal/link/tlsNegotiation.ts"
import { sqlMessage } from "../../src/server/internal/link/sqlState.ts"
import * as PgTls from "../../src/server/PgTls.ts"
import { tcpServer } from "../support/tcpServer.ts"
import { missing } from "./support/tlsServer.ts"

let folder: string
const at = (name: string) => Path.join(folder, name)
const text = (name: string) => Fs.readFileSync(at(name), "utf8")
const openssl = (args: string) =>
  execFileSync("openssl", args.split(" "), { cwd: folder, stdio: "pipe" })

beforeAll(() => {
  if (missing !== undefined) return
  folder = Fs.mkdtempSync(Path.join(Os.tmpdir(), "realtime-certificates-"))
  for (const name of ["one", "two"]) {
    openssl(
      `req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=${name} -keyout ${name}.key -out ${name}.pem`
    )
  }
  openssl("ec -in one.key -aes256 -passout pass:right -out locked.key")
  const broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
  Fs.writeFileSync(at("broken.pem"), broken)
  Fs.writeFileSync(at("bundle.pem"), text("one.pem") + text("two.pem"))
  Fs.writeFileSync(at("half.pem"), text("one.pem") + broken)
})
afterAll(() => {
  if (folder !== undefined) Fs.rmSync(folder, { recursive: true })
})

/** A listener that accepts TLS and then sends nothing more. */
const agreeing = tcpServer((socket) => socket.once("data", () => socket.write("S")))

describe.skipIf(missing !== undefined)("The certificates of a database URL", () => {
  it.each([
    ["sslcert=one.pem&sslkey=two.key", /a sslkey that is not the key of its sslcert/],
    ["sslcert=one.pem&sslkey=locked.key", /is encrypted\. Give its password as sslpassword/],
    ["sslcert=one.pem&sslkey=locked.key&sslpassword=hunter2", /a sslpassword that does not open/],
    ["sslcert=one.pem&sslkey=one.pem", /a sslkey that cannot be read \(ERR_OSSL/],
    ["sslcert=one.key&sslkey=one.pem", /a sslcert that cannot be read \(ERR_OSSL/],
    ["sslcert=broken.pem&sslkey=one.key", /a sslcert that cannot be read \(ERR_OSSL/],
    ["sslrootcert=one.key", /a sslrootcert that holds no certificate/],
    ["sslrootcert=broken.pem", /whose certificate 1 cannot be read/],
    ["sslrootcert=half.pem", /whose certificate 2 cannot be read/]
  ])("the URL with %s is rejected before connecting, in every sslmode", (query, said) => {
    const files = query.replace(/=(\w+\.)/g, (_, name) => `=${at(name)}`)
    for (const mode of ["allow", "prefer", "require", "verify-full"]) {
      const read = secured({ url: Redacted.make(`postgres://u@h/d?sslmode=${mode}&${files}`) })
      const { message } = Result.getOrThrow(Result.flip(read))
      expect(message).toMatch(said)
      expect(message).not.toContain("hunter2")
    }
  })

  it("the option ssl is rejected when its key does not fit its certificate", () => {
    const ssl = { cert: text("one.pem"), key: text("two.key") }
    const { message } = Result.getOrThrow(Result.flip(secured({ username: "u", ssl })))
    expect(message).toMatch(
      /an option ssl that cannot be used \(ERR_OSSL_X509_KEY_VALUES_MISMATCH\)/
    )
    for (const fine of [true, false, {}, { cert: text("one.pem"), key: text("one.key") }]) {
      expect(Result.isSuccess(secured({ username: "u", ssl: fine }))).toBe(true)
    }
  })

  it("certificates and keys that fit are accepted", () => {
    const tls = (query: string) => {
      const url = Redacted.make(`postgres://u@h/d?sslmode=require&${query}`)
      return Result.getOrThrow(secured({ url })).connection.ssl
    }
    expect(tls(`sslcert=${at("one.pem")}&sslkey=${at("one.key")}`)).toMatchObject({
      cert: text("one.pem"),
      key: text("one.key")
    })
    expect(
      tls(`sslcert=${at("one.pem")}&sslkey=${at("locked.key")}&sslpassword=right`)
    ).toMatchObject({ passphrase: "right" })
    expect(tls(`sslrootcert=${at("bundle.pem")}`)).toMatchObject({ ca: text("bundle.pem") })
    expect(tls("ssl_min_protocol_version=TLSv1.2&ssl_max_protocol_version=TLSv1.2")).toMatchObject({
      minVersion: "TLSv1.2",
      maxVersion: "TLSv1.2"
    })
  })

  it.live("a key that does not fit is rejected, although the server agrees to TLS", () =>
    Effect.gen(function* () {
      const port = yield* agreeing
      const files = `sslcert=${at("one.pem")}&sslkey=${at("locked.key")}`
      for (const mode of ["allow", "prefer", "require"]) {
        const url = `postgres://u@127.0.0.1:${port}/d?sslmode=${mode}&${files}`
        const error = yield* Effect.flip(
          Effect.scoped(Effect.flatMap(PgTls.config(url), PgConnection.make))
        )
        expect(error._tag).toBe("InvalidDatabaseUrl")
      }
    }).pipe(Effect.scoped)
  )

  it.live("an error thrown in a socket's listener ends the session, not the process", () =>
    Effect.gen(function* () {
      const port = yield* agreeing
      const stream = () =>
        new Negotiated({
          mode: "prefer",
          connect: () => Net.connect(port, "127.0.0.1"),
          tls: { cert: text("one.pem"), key: text("two.key") }
        })
      const error = yield* Effect.flip(
        Effect.scoped(PgConnection.make({ username: "u", stream, ssl: false }))
      )
      expect(sqlMessage(error)).toContain("key values mismatch")
    }).pipe(Effect.scoped)
  )
})

describe("Repeated parameters of a database URL", () => {
  const read = (query: string) =>
    Result.getOrThrow(secured({ url: Redacted.make(`postgres://u@h:1/d?${query}`) })).connection

  it("the last of repeated parameters counts", () => {
    expect(read("sslmode=disable&sslmode=verify-full").ssl).toEqual({})
    expect(read("sslmode=verify-full&sslmode=disable").ssl).toBe(false)
    expect(read("sslmode=disable&sslmode=require").ssl).toMatchObject({ rejectUnauthorized: false })
    expect(read("sslmode=disable&ssl=true&sslmode=verify-full").ssl).toEqual({})
    expect(address(read("host=a&host=b&port=2&port=3"))).toMatchObject({ host: "b", port: 3 })
    expect(address(read("host=a&host=/run"))).toEqual({ path: "/run/.s.PGSQL.1" })
  })

  it("repeated parameters are rejected if any of them is invalid", () => {
    const url = Redacted.make("postgres://u@h/d?sslmode=full&sslmode=verify-full")
    expect(Result.isFailure(secured({ url }))).toBe(true)
  })
})
