/** The database of a command: its connections, and what to say when it refuses. */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import { isSqlError } from "effect/sql/SqlError"
import { errorText } from "../../internal/errorText.ts"
import {
  explained,
  ListenNotDelivered,
  NotPrimary
} from "../../server/internal/link/databaseRefusal.ts"
import {
  isForbidden,
  isMissing,
  sqlMessage,
  sqlState
} from "../../server/internal/link/sqlState.ts"
import { grantsMissing } from "../../server/internal/sql/inspection.ts"
import { SchemaName } from "../../server/internal/sql/schemaName.ts"
import { NotInstalled } from "../../server/PgInstaller.ts"
import * as PgTls from "../../server/PgTls.ts"
import { CommandFailed, failed } from "./exit.ts"

/** Where the objects of a command are. */
export interface Place {
  readonly database: Redacted.Redacted
  readonly schema: string
}

/** What a socket says of a server that cannot be reached. A file that cannot be read has codes as well. */
const unreached =
  /\b(?:connect|getaddrinfo|read|write) (ECONNREFUSED|ECONNRESET|EHOSTUNREACH|ENETUNREACH|ENOENT|ENOTFOUND|EAI_AGAIN|EPIPE|ETIMEDOUT)\b/

/** Codes of PostgreSQL on a standby: it is read-only, and has no LISTEN and NOTIFY. */
const onlyReads = new Set(["25006", "55000"])

/** No command does its work there, except doctor. */
export const standby =
  "The database is a standby, or is read-only. Give the URL of the primary with --database."

/** What a pooler or another database does to LISTEN, in the words of the flags. */
export const undelivered =
  "A notification through --database did not arrive on the link. A transaction pooler such as PgBouncer drops LISTEN, and another database has other notifications: give the direct URL of the same database with --listen."

/** A sentence for the user, with the cure where one is known. */
export const sentenceOf = (error: unknown, schema: string): string => {
  if (error instanceof ListenNotDelivered) return undelivered
  if (error instanceof NotPrimary) return standby
  if (error instanceof Error) {
    const { _tag, cause, servers } = error as { _tag?: unknown; cause?: unknown; servers?: unknown }
    const at = Array.isArray(servers) ? servers.join(", ") : ""
    if (_tag === "NatsUnreachable") {
      return `No NATS server answers at ${at}: ${errorText(cause)}. Check --nats and the network.`
    }
    if (_tag === "NatsRefused") {
      return `NATS at ${at} is rejected, or rejects this node: ${errorText(cause)}. Check REALTIME_NATS_TOKEN, --nats-user with REALTIME_NATS_PASSWORD, --nats-credentials and --nats-ca.`
    }
  }
  const inner = sqlErrorIn(error)
  if (onlyReads.has(sqlState(inner) ?? "") && /recovery|read-only/.test(sqlMessage(inner))) {
    return standby
  }
  if (isSqlError(error) && isMissing(error)) return new NotInstalled({ schema }).message
  const text = isSqlError(error) ? explained(error, schema) : errorText(error)
  return unreached.test(text)
    ? `The database cannot be reached: ${text}. Check the host and port of the database URL, and that the server runs.`
    : text
}

/** The error of PostgreSQL in an error of ours. */
const sqlErrorIn = (error: unknown): unknown =>
  isSqlError(error) || !(error instanceof Error) || error.cause === undefined
    ? error
    : sqlErrorIn(error.cause)

/** Ends the command with the sentence of an error. */
export const failedBy =
  (schema: string) =>
  (error: unknown): CommandFailed =>
    error instanceof CommandFailed ? error : failed(sentenceOf(error, schema))

/** Whether PostgreSQL refused for want of a right, here or in the cause of the error. */
const lacksRight = (error: unknown): boolean =>
  isForbidden(error) ||
  (error instanceof Error &&
    ((error as { readonly code?: unknown }).code === "42501" || lacksRight(error.cause)))

/** As `failedBy`, in the place of the database: it also lists the grants that the role lacks. */
const explainedBy = (schema: string) => (error: unknown) =>
  Effect.gen(function* () {
    const { code, message } = failedBy(schema)(error)
    if (!lacksRight(error)) return yield* new CommandFailed({ code, message })
    const sql = yield* PgClient.PgClient
    const [row] = yield* sql<{ readonly role: string }>`select current_user::text as role`
    const missing = yield* grantsMissing(sql, row!.role)
    return yield* new CommandFailed({
      code,
      message:
        missing.length === 0
          ? message
          : `${message}\n  Role ${row!.role} lacks these rights of a node: ${missing.join("; ")}.`
    })
  }).pipe(Effect.mapError(failedBy(schema)))

/** A pool of few connections, and the schema of the objects. Connects at the first statement. */
export const layerDatabase = ({ database, schema }: Place) =>
  Layer.merge(
    Layer.unwrap(
      Effect.map(PgTls.config(database), (config) =>
        PgClient.layer({ ...config, maxConnections: 2, applicationName: "effect-realtime cli" })
      )
    ),
    Layer.succeed(SchemaName, schema)
  )

/** Runs a command in its database, and ends it with a sentence where it fails. */
export const inDatabase =
  (place: Place) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>) =>
    effect.pipe(
      Effect.catch(explainedBy(place.schema)),
      Effect.provide(layerDatabase(place)),
      Effect.mapError(failedBy(place.schema))
    )
