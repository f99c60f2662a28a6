/**
 * A PostgreSQL with TLS and an authority of its own. It listens on a loopback address of its own,
 * because every server of a test has the port 5432.
 */
import { Effect } from "effect"
import { execFile, spawnSync } from "node:child_process"
import { randomInt } from "node:crypto"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { promisify } from "node:util"
import { unprivileged } from "../../../src/testing/internal/processes.ts"
import { ownServer } from "../../support/cluster.ts"

/** Why no such server can run here, or `undefined`. */
export const missing =
  process.platform !== "linux"
    ? "only Linux has 127.0.0.0/8 as loopback"
    : spawnSync("openssl", ["version"]).status !== 0
      ? "openssl is not installed"
      : undefined

if (missing !== undefined) console.warn(`SKIP tests with TLS to PostgreSQL: ${missing}`)

const directory = Effect.acquireRelease(
  Effect.sync(() => {
    const path = Fs.mkdtempSync(Path.join(Os.tmpdir(), "realtime-tls-"))
    Fs.chmodSync(path, 0o755)
    return path
  }),
  (path) => Effect.sync(() => Fs.rmSync(path, { recursive: true, force: true }))
)

/** An authority, and the certificate of a server at this address. */
const certify = (directory: string, address: string) =>
  Effect.promise(async () => {
    const at = (name: string) => Path.join(directory, name)
    const openssl = (args: string) =>
      promisify(execFile)("openssl", args.split(" "), { cwd: directory })
    const key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
    const authority = (name: string) =>
      openssl(`req -x509 ${key} -days 2 -subj /CN=${name} -keyout ${name}.key -out ${name}.pem`)
    await Promise.all([authority("authority"), authority("stranger")])
    await openssl(`req ${key} -subj /CN=database -keyout server.key -out server.csr`)
    Fs.writeFileSync(at("names"), `subjectAltName=IP:${address}`)
    await openssl(
      "x509 -req -in server.csr -CA authority.pem -CAkey authority.key -CAcreateserial -days 2 -extfile names -out server.pem"
    )
    const user = unprivileged(undefined)
    Fs.chmodSync(at("server.key"), 0o600)
    if (user !== undefined) Fs.chownSync(at("server.key"), user.uid, user.gid)
  })

/** The rules of pg_hba.conf for its users. */
const access = `local all all trust
hostssl all only_tls all trust
hostnossl all only_plain all trust
host all password all scram-sha-256
host all postgres all trust
`

/** `ssl: "off"` for a server that has no TLS. */
export const tlsServer = Effect.fnUntraced(function* (ssl: "on" | "off" = "on") {
  const path = yield* directory
  const address = `127.${randomInt(1, 255)}.${randomInt(1, 255)}.${randomInt(1, 255)}`
  yield* certify(path, address)
  Fs.writeFileSync(Path.join(path, "access"), access)
  const server = yield* ownServer({
    listen_addresses: address,
    hba_file: Path.join(path, "access"),
    ssl,
    ssl_cert_file: Path.join(path, "server.pem"),
    ssl_key_file: Path.join(path, "server.key")
  })
  return {
    address,
    server,
    /** The authority that certified the server, and one that did not. */
    authority: Path.join(path, "authority.pem"),
    stranger: Path.join(path, "stranger.pem"),
    url: (query: string, user = "postgres", host = address) =>
      `postgres://${user}@${host}:5432/postgres${query === "" ? "" : `?${query}`}`
  }
})
