/** What proves a node to a NATS server of a test: certificates, an NKey, and a `.creds` file. */
import { nkeys } from "@nats-io/transport-node"
import { Effect } from "effect"
import { execFile, spawnSync } from "node:child_process"
import { randomUUID } from "node:crypto"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { promisify } from "node:util"
import { temporary } from "./temporary.ts"

export const hasOpenssl = spawnSync("openssl", ["version"]).status === 0

/** An authority, with the certificates of a server on loopback and of a node; and one that certified neither. */
export const certificates = Effect.gen(function* () {
  const path = yield* temporary
  const openssl = (args: string) =>
    Effect.promise(() => promisify(execFile)("openssl", args.split(" "), { cwd: path }))
  const key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
  yield* Effect.forEach(
    ["authority", "stranger"],
    (name) =>
      openssl(`req -x509 ${key} -days 2 -subj /CN=${name} -keyout ${name}.key -out ${name}.pem`),
    { concurrency: 2 }
  )
  Fs.writeFileSync(Path.join(path, "names"), "subjectAltName=DNS:localhost")
  for (const [serial, name] of ["server", "node"].entries()) {
    yield* openssl(`req ${key} -subj /CN=${name} -keyout ${name}.key -out ${name}.csr`)
    yield* openssl(
      `x509 -req -in ${name}.csr -CA authority.pem -CAkey authority.key -set_serial ${serial + 1} -days 2 -extfile names -out ${name}.pem`
    )
  }
  const at = (name: string) => Path.join(path, name)
  return {
    /** For the configuration of a server, which asks each node for its certificate. */
    server: `tls { cert_file: "${at("server.pem")}", key_file: "${at("server.key")}", ca_file: "${at("authority.pem")}", verify: true }`,
    authority: at("authority.pem"),
    stranger: at("stranger.pem"),
    certificate: at("node.pem"),
    key: at("node.key")
  }
})

type KeyPair = ReturnType<typeof nkeys.createUser>

const base64 = (bytes: Uint8Array | string) => Buffer.from(bytes).toString("base64url")

/** A token of NATS, signed by the key of its issuer. */
const jwt = (issuer: KeyPair, subject: KeyPair, name: string, nats: object): string => {
  const claims = {
    jti: randomUUID(),
    iat: Math.floor(Date.now() / 1000),
    iss: issuer.getPublicKey(),
    sub: subject.getPublicKey(),
    name,
    nats: { ...nats, version: 2 }
  }
  const text = `${base64(JSON.stringify({ typ: "JWT", alg: "ed25519-nkey" }))}.${base64(JSON.stringify(claims))}`
  return `${text}.${base64(issuer.sign(Buffer.from(text)))}`
}

const noLimits = { subs: -1, data: -1, payload: -1 }

/** A server that trusts an operator, and the `.creds` file of a node that may use some subjects. */
export const credentials = (subjects: string) =>
  Effect.map(temporary, (path) => {
    const [operator, account, user] = [
      nkeys.createOperator(),
      nkeys.createAccount(),
      nkeys.createUser()
    ]
    const file = Path.join(path, "node.creds")
    const rights = { pub: { allow: [subjects] }, sub: { allow: [subjects] } }
    const token = jwt(account, user, "node", { type: "user", ...rights, ...noLimits })
    const seed = Buffer.from(user.getSeed()).toString()
    Fs.writeFileSync(
      file,
      `-----BEGIN NATS USER JWT-----\n${token}\n------END NATS USER JWT------\n\n-----BEGIN USER NKEY SEED-----\n${seed}\n------END USER NKEY SEED------\n`
    )
    const limits = { ...noLimits, imports: -1, exports: -1, wildcards: true, conn: -1, leaf: -1 }
    const nodes = jwt(operator, account, "nodes", { type: "account", limits })
    const trusted = jwt(operator, operator, "operator", { type: "operator" })
    return {
      server: `operator: ${trusted}\nresolver: MEMORY\nresolver_preload: { ${account.getPublicKey()}: ${nodes} }`,
      file
    }
  })
