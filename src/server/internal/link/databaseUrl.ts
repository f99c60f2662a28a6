/**
 * Parses a connection string as libpq does, as far as the address of the database and TLS go.
 *
 * The driver ignores parameters that it does not know: with `ssl=true` it connected in plain text. This
 * module rejects what cannot be followed before anything connects, and never quotes what may be a secret.
 */
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { readFileSync } from "node:fs"
import * as NodeTls from "node:tls"
import { nodeFault } from "../../../internal/nodeVersion.ts"
import { type Fault, fileFault, versionFault } from "./certificates.ts"

// The entries of the server and of its node import this one. By name, an older Node could not even link
// the import of `getCACertificates`, and would say so as a SyntaxError.
const fault = nodeFault(process.versions.node)
if (fault !== undefined) throw new Error(fault)

/**
 * A connection string cannot be followed. Raised before anything connects.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidDatabaseUrl extends Schema.TaggedError<InvalidDatabaseUrl>()(
  "InvalidDatabaseUrl",
  {
    /** What is wrong with it. */
    reason: Schema.String,
    /** How to fix it. */
    cure: Schema.String
  }
) {
  override get message(): string {
    return `The database URL ${this.reason}. ${this.cure}.`
  }
}

/**
 * The values of `sslmode`: whether a session uses TLS, and what it verifies.
 *
 * @category models
 * @since 0.1.0
 */
export type SslMode = "disable" | "allow" | "prefer" | "require" | "verify-ca" | "verify-full"

const modes: ReadonlyArray<SslMode> = [
  "disable",
  "allow",
  "prefer",
  "require",
  "verify-ca",
  "verify-full"
]

/** The TLS settings of a URL. */
export interface Tls {
  readonly mode: SslMode
  /** The options for `node:tls` when the session uses TLS. */
  readonly options: NodeTls.ConnectionOptions
  /** Whether `@effect/sql-pg` does the same from this URL alone. */
  readonly native: boolean
}

/** The fault of a certificate or a key as an error about the URL. */
export const invalidBy = ({ cure, reason }: Fault) => invalid(reason, cure)

const invalid = (reason: string, cure: string) => new InvalidDatabaseUrl({ reason, cure })

const form =
  "Write it like postgres://user:password@host:5432/database, with special characters percent-encoded"

/** Parameters that cannot be followed, each with the fix. A harmless value is accepted. */
const unfollowed: Readonly<
  Record<string, { readonly harmless: ReadonlyArray<string>; readonly cure: string }>
> = {
  channel_binding: {
    harmless: ["disable", "prefer"],
    cure: "Take it out; sslmode=verify-full proves who the server is"
  },
  gssencmode: { harmless: ["disable", "prefer"], cure: "Take it out, and use sslmode" },
  hostaddr: { harmless: [], cure: "Give the address as host" },
  load_balance_hosts: { harmless: ["disable"], cure: "Take it out" },
  require_auth: { harmless: [], cure: "Take it out" },
  requirepeer: { harmless: [], cure: "Take it out" },
  requiressl: { harmless: ["0"], cure: "Write sslmode=require" },
  service: { harmless: [], cure: "Write host, port, user and database out" },
  sslcrl: { harmless: [], cure: "Take it out" },
  sslcrldir: { harmless: [], cure: "Take it out" },
  sslcompression: { harmless: ["0"], cure: "Take it out" },
  sslnegotiation: { harmless: ["postgres"], cure: "Take it out" },
  sslsni: { harmless: ["1"], cure: "Take it out" },
  target_session_attrs: {
    harmless: ["any"],
    cure: "Give one host that leads to the primary: the name of the cluster, or of a proxy"
  }
}

const followed = [
  "ssl",
  "sslmode",
  "sslrootcert",
  "sslcert",
  "sslkey",
  "sslpassword",
  "ssl_min_protocol_version",
  "ssl_max_protocol_version"
] as const

/** Of a parameter that is given more than once the last value holds, as for libpq and the driver. */
export const lastOf = (query: URLSearchParams, name: string): string | undefined =>
  query.getAll(name).at(-1)

const isDecodable = (text: string): boolean => {
  try {
    decodeURIComponent(text)
    return true
  } catch {
    return false
  }
}

const isWhole = (text: string, least: number, most: number): boolean =>
  /^\d+$/.test(text) && Number(text) >= least && Number(text) <= most

const isPrivate = (name: string): boolean => /^(ssl|tls)/i.test(name)

/** The first fault of a URL, or `undefined`. */
const faultOf = (given: string): InvalidDatabaseUrl | undefined => {
  // As `URL` trims.
  const text = given.trim()
  const authority = /^[a-z]+:\/\/([^/?#]*)/i.exec(text)?.[1]
  if (authority === undefined && /^postgres(ql)?:/i.test(text)) {
    // `URL` would read the text behind the colon as a path, and this machine as the host.
    return invalid("has no // behind its scheme", form)
  }
  if (authority?.slice(authority.lastIndexOf("@") + 1).includes(",")) return severalHosts
  if (!URL.canParse(text)) return invalid("is no URL", form)
  const { hash, hostname, password, pathname, protocol, searchParams, username } = new URL(text)
  if (protocol !== "postgres:" && protocol !== "postgresql:") {
    // `user:password@host` parses too: the text before the colon may be a secret.
    const scheme = /^[a-z][a-z\d+.-]*:\/\//i.test(text) ? ` (${protocol}//)` : ""
    return invalid(`is not one of PostgreSQL${scheme}`, form)
  }
  if (hash !== "") return invalid("has a # in it, which ends it", "Write %23 instead")
  if (![username, password, hostname, pathname].every(isDecodable)) {
    return invalid("has a % in it that begins no character", "Write %25 instead")
  }
  if (/%00/.test(text)) return invalid("has a %00 in it", "PostgreSQL knows no such character")
  const names = [...searchParams.keys()]
  if (username === "" && password === "" && [pathname, ...names].some((at) => at.includes("@"))) {
    // The beginning of the password would be read as a port, and its end as a database.
    return invalid("has an @ behind its host", "Write / as %2F and ? as %3F in a password")
  }
  for (const [name, value] of searchParams) {
    if (name === "port" && !isWhole(value, 1, 65_535)) {
      return invalid(`says port=${value}`, "It is a number from 1 to 65535")
    }
    if (name === "connect_timeout" && !isWhole(value, 0, Infinity)) {
      return invalid(`says connect_timeout=${value}`, "It is a number of seconds")
    }
    const foreign = unfollowed[name]
    if (foreign !== undefined) {
      if (foreign.harmless.includes(value)) continue
      return invalid(`asks for ${name}=${value}, which is not supported`, foreign.cure)
    }
    if (isPrivate(name) && !(followed as ReadonlyArray<string>).includes(name)) {
      return invalid(
        `has a parameter ${name}, which is not known`,
        `Known are ${followed.join(", ")}`
      )
    }
    if (name === "host" && value.includes(",")) return severalHosts
    if (name === "ssl" && value !== "true") {
      return invalid(`says ssl=${value}`, "Write ssl=true, or sslmode=disable for none")
    }
    if (name === "sslmode" && !(modes as ReadonlyArray<string>).includes(value)) {
      return invalid(`says sslmode=${value}`, `It is one of ${modes.join(", ")}`)
    }
    if (/^ssl_m(in|ax)_protocol_version$/.test(name) && !/^TLSv1(\.[123])?$/.test(value)) {
      return invalid(`says ${name}=${value}`, "It is TLSv1, TLSv1.1, TLSv1.2 or TLSv1.3")
    }
  }
  const ssl = lastOf(searchParams, "ssl")
  const mode = lastOf(searchParams, "sslmode")
  if (ssl !== undefined && mode !== undefined && mode !== "require" && !mode.startsWith("verify")) {
    return invalid(`says both ssl=true and sslmode=${mode}`, "Keep sslmode")
  }
  return undefined
}

const severalHosts = invalid(
  "names several hosts",
  "Give one that leads to the primary: the name of the cluster, or of a proxy"
)

/** Reads the file that a parameter names. */
const fileOf = (name: string, path: string, holds: string): string => {
  let text: string
  try {
    text = readFileSync(path, "utf8")
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    throw invalid(
      `names the file ${path} as ${name}, which cannot be read (${code})`,
      "Check the path, and that this process may read the file"
    )
  }
  if (!text.includes("-----BEGIN ")) {
    throw invalid(`names the file ${path} as ${name}, which is no PEM`, `Give ${holds} as PEM`)
  }
  return text
}

/** A session needs a user, and there is no default. */
export const namesNoUser = invalid("names no user", form)

/** The TLS settings of a URL, with its files read. Throws `InvalidDatabaseUrl`. */
const tlsOf = (query: URLSearchParams): Tls | undefined => {
  const given = (name: (typeof followed)[number]) => lastOf(query, name) || undefined
  const refuse = (fault: Fault | undefined) => {
    if (fault !== undefined) throw invalidBy(fault)
  }
  const root = given("sslrootcert")
  const said =
    given("sslmode") ??
    (given("ssl") === undefined ? (root === "system" ? "verify-full" : undefined) : "require")
  if (said === undefined) {
    const other = followed.find((name) => given(name) !== undefined)
    if (other === undefined) return undefined
    throw invalid(`has ${other}, and no sslmode`, "Add sslmode=verify-full, or take it out")
  }
  const mode = said as SslMode
  if (mode === "disable") return { mode, options: {}, native: true }
  if (root === "system" && mode !== "verify-full") {
    throw invalid(`says sslrootcert=system and sslmode=${mode}`, "Write sslmode=verify-full")
  }
  const [cert, key] = [given("sslcert"), given("sslkey")]
  if ((cert === undefined) !== (key === undefined)) {
    throw invalid("has one of sslcert and sslkey", "Give both, or none")
  }
  const passphrase = given("sslpassword")
  const files = {
    ...(root === undefined || root === "system"
      ? {}
      : { ca: fileOf("sslrootcert", root, "the certificates of the authorities") }),
    ...(cert === undefined || key === undefined
      ? {}
      : {
          cert: fileOf("sslcert", cert, "the certificate"),
          key: fileOf("sslkey", key, "the key")
        }),
    ...(passphrase === undefined ? {} : { passphrase })
  }
  refuse(fileFault(files))
  const options: NodeTls.ConnectionOptions = { ...files }
  if (root === "system") options.ca = NodeTls.getCACertificates("system")
  const [min, max] = [given("ssl_min_protocol_version"), given("ssl_max_protocol_version")]
  if (min !== undefined) options.minVersion = min as "TLSv1.2"
  if (max !== undefined) options.maxVersion = max as "TLSv1.2"
  refuse(versionFault(options))
  const native = mode === "verify-full" && Object.keys(options).length === 0
  // As libpq: a given authority is verified even where the mode does not require it.
  if (!mode.startsWith("verify") && root === undefined) options.rejectUnauthorized = false
  else if (mode !== "verify-full") options.checkServerIdentity = () => undefined
  return { mode, options, native }
}

/**
 * The TLS settings of a connection string, with the files that it names; `undefined` when it has none.
 * Fails where the string cannot be followed.
 */
export const readUrl = (
  url: Redacted.Redacted | string
): Result.Result<Tls | undefined, InvalidDatabaseUrl> => {
  const text = typeof url === "string" ? url : Redacted.value(url)
  const fault = faultOf(text)
  if (fault !== undefined) return Result.fail(fault)
  return Result.try({
    try: () => tlsOf(new URL(text).searchParams),
    catch: (error) => {
      if (error instanceof InvalidDatabaseUrl) return error
      throw error
    }
  })
}
