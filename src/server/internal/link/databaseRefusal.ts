/**
 * Tells a refusal by PostgreSQL that lasts from a failure that passes.
 *
 * A database that starts, a proxy during a deployment, or a password change refuses connections for a
 * moment. So a refusal counts as lasting only when several new connections, over some time, get the same
 * one.
 */
import { pgNotificationSource as Defaults } from "../../../internal/defaults.ts"
import * as Duration from "effect/Duration"
import * as Schema from "effect/Schema"
import { isSqlError } from "effect/sql/SqlError"
import { millis } from "../options.ts"
import { identifier } from "../sql/literal.ts"
import { usual } from "../sql/schemaName.ts"
import { sqlMessage, sqlState } from "./sqlState.ts"

/**
 * PostgreSQL refused every connection at the start, several times and over some time, for a reason that
 * waiting does not fix: the user, the password, the database, a privilege, or TLS.
 *
 * @category errors
 * @since 0.1.0
 */
export class DatabaseRefused extends Schema.TaggedError<DatabaseRefused>()("DatabaseRefused", {
  /** The session that was refused. */
  session: Schema.Literals(["link", "pool", "reader of the outbox"]),
  /** The SQLSTATE of PostgreSQL, or Node's code for a certificate; `none` where there is neither. */
  code: Schema.String,
  /** The message of PostgreSQL or of the socket. */
  reason: Schema.String,
  /** How to fix it. */
  cure: Schema.String,
  /** How many connections in a row were refused. */
  times: Schema.Int,
  /** The time from the first refusal to the last, in milliseconds. */
  millis: Schema.Finite
}) {
  override get message(): string {
    return `PostgreSQL refused the ${this.session} ${this.times} times in ${Math.round(this.millis / 100) / 10} s: ${this.reason} (${this.code}). ${this.cure}.`
  }
}

/**
 * The server that answers is not the primary. Only a primary delivers notifications and takes positions.
 *
 * @category errors
 * @since 0.1.0
 */
export class NotPrimary extends Schema.TaggedError<NotPrimary>()("NotPrimary", {}) {
  override get message(): string {
    return "The database is a standby. Notifications and positions are those of the primary only: give the link, the reader and the pool the address of the primary, or a name that leads to it."
  }
}

/**
 * PostgreSQL accepted a LISTEN and then delivered nothing: the link leads through a transaction pooler, or
 * to another database than the pool.
 *
 * @category errors
 * @since 0.1.0
 */
export class ListenNotDelivered extends Schema.TaggedError<ListenNotDelivered>()(
  "ListenNotDelivered",
  {
    /** How long the link waited for the echo, in milliseconds. */
    waited: Schema.Finite
  }
) {
  override get message(): string {
    return `A notification that was sent to the link did not arrive within ${this.waited} ms, on three links in a row. A transaction pooler such as PgBouncer drops LISTEN, and a listenUrl that leads to another database receives no notification of the pool: give the direct address of the database that the pool leads to as listenUrl. Where all channels are durable no link is needed: Realtime.layerDurable, or wake: "poll" for the class.`
  }
}

/**
 * Why a source fails at the start: faults of the database or of the connection that waiting does not fix.
 *
 * @category errors
 * @since 0.1.0
 */
export type SourceRefused = DatabaseRefused | ListenNotDelivered | NotPrimary

/** The option `startPatience` in milliseconds, with its default. Throws `InvalidOption`. */
export const patienceOf = (given: Duration.Input | undefined): number =>
  millis("startPatience", given ?? Defaults.startPatience, { least: 0, endless: true })

/** How many connections in a row must be refused. */
const leastTimes = 3

export interface DatabaseRefusal {
  readonly code: string
  readonly reason: string
  readonly cure: string
}

const cures: Readonly<Record<string, string>> = {
  "28P01":
    "Check the user and the password in the database URL, where special characters are percent-encoded",
  "3D000": "Create the database, or correct its name in the database URL",
  ERR_TLS_CERT_ALTNAME_INVALID:
    "Use a host that the certificate names, or sslmode=verify-ca where its authority is enough",
  CERT_HAS_EXPIRED: "Give the server a new certificate",
  CERT_NOT_YET_VALID: "Check the clocks of both machines"
}

/** Codes of errors in which TLS or a certificate is rejected, by either side. */
export const tlsCodes =
  /^(ERR_(SSL|TLS)_|CERT_|UNABLE_TO_(GET_ISSUER|VERIFY)|(DEPTH_ZERO_)?SELF_SIGNED|INVALID_CA$|HOSTNAME_MISMATCH$|EPROTO$)/

/** The rights that a role needs: those of a node, or those of an application that publishes. */
export type RoleRights = "app" | "node"

const rightsOf = { app: "rights to publish", node: "rights of a node" } as const

/** The database to which PostgreSQL lets a role not connect, out of its message, as a name in SQL. */
export const closedDatabase = (reason: string): string | undefined => {
  const name = /^permission denied for database "(.*)"$/.exec(reason)?.[1]
  return name === undefined ? undefined : identifier(name)
}

const cureOf = (code: string, reason: string, schema: string, rights: RoleRights): string => {
  const known = cures[code]
  if (known !== undefined) return known
  if (code === "42501") {
    const [of, flag] =
      schema === usual ? ["", ""] : [`schema: ${JSON.stringify(schema)}, `, `--schema ${schema} `]
    const closed = closedDatabase(reason)
    return closed === undefined
      ? `As the owner, give the role the ${rightsOf[rights]}: npx effect-realtime sql ${flag}--${rights}-role <role> --apply, or PgInstaller.install({ ${of}roles: { ${rights} } })`
      : `Let the role connect: grant connect on database ${closed} to <role>`
  }
  if (/no encryption|SSL off/.test(reason)) return "Add sslmode=require to the database URL"
  if (tlsCodes.test(code)) {
    return "Name the file of the authority that signed the server's certificate: sslmode=verify-full&sslrootcert=<file>"
  }
  if (reason.includes("does not support TLS")) {
    return "Give the server a certificate (ssl = on), or take sslmode and ssl from the database URL"
  }
  return "Check the user in the database URL, that the role may log in, and what pg_hba.conf says about it"
}

/**
 * The refusal when it lasts, or `undefined` for a failure that may pass; `schema` is that of the objects, and
 * `rights` are those that the session needs.
 */
export const databaseRefusalOf = (
  failure: unknown,
  schema = usual,
  rights: RoleRights = "node"
): DatabaseRefusal | undefined => {
  if (!isSqlError(failure)) return undefined
  const code = sqlState(failure)
  const reason = sqlMessage(failure)
  const lasting =
    failure.reason._tag === "AuthenticationError" ||
    reason.includes("does not support TLS") ||
    (code !== undefined &&
      (code.startsWith("28") || code === "3D000" || code === "42501" || tlsCodes.test(code)))
  return lasting
    ? { code: code ?? "none", reason, cure: cureOf(code ?? "", reason, schema, rights) }
    : undefined
}

/** The message of a failure, with the way to fix it where that is known. */
export const explained = (failure: unknown, schema?: string, rights?: RoleRights): string => {
  const refusal = databaseRefusalOf(failure, schema, rights)
  return refusal === undefined ? sqlMessage(failure) : `${refusal.reason}. ${refusal.cure}.`
}

/** Counts equal refusals in a row, since the first one. */
export class Doubt {
  readonly #patience: number
  #code: string | undefined
  #times = 0
  #since = 0

  constructor(patience: Duration.Input) {
    this.#patience = Duration.toMillis(Duration.fromInputUnsafe(patience))
  }

  /** Records the code of a refusal, or `undefined` for any other outcome. */
  note(code: string | undefined, now: number): void {
    if (code === undefined || code !== this.#code) {
      this.#code = code
      this.#times = 0
      this.#since = now
    }
    this.#times++
  }

  /** How often and how long the same refusal was seen, once that is enough to count as lasting. */
  believed(now: number): { readonly times: number; readonly millis: number } | undefined {
    const millis = now - this.#since
    return this.#code !== undefined && this.#times >= leastTimes && millis >= this.#patience
      ? { times: this.#times, millis }
      : undefined
  }

  /** The wait before the next attempt in milliseconds: at most until the refusal may count as lasting. */
  delay(usual: number, now: number): number {
    const left = this.#since + this.#patience - now
    return this.#code !== undefined && left > 0 ? Math.min(usual, left) : usual
  }
}
