/**
 * What a command says where the database or NATS refuses: what happened, and the cure that helps its user.
 *
 * In: an error of any depth, and whose rights the command needs. Out: a sentence, and behind a line feed what
 * is to be run. A cure names the role, its owner and the missing grants, so it asks the catalogs for them.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { isSqlError } from "effect/sql/SqlError"
import { errorText } from "../../internal/errorText.ts"
import { BusForbidden } from "../../server/internal/bus/busErrors.ts"
import {
  closedDatabase,
  DatabaseRefused,
  explained,
  ListenNotDelivered,
  NotPrimary,
  type RoleRights
} from "../../server/internal/link/databaseRefusal.ts"
import {
  isForbidden,
  isMissing,
  sqlMessage,
  sqlState
} from "../../server/internal/link/sqlState.ts"
import { lastOf } from "../../server/internal/link/databaseUrl.ts"
import { grantsMissing, installedSchemas } from "../../server/internal/sql/inspection.ts"
import { identifier } from "../../server/internal/sql/literal.ts"
import { NotInstalled, OutdatedInstall } from "../../server/PgInstaller.ts"
import { layerDatabase, type Place } from "./database.ts"
import { CommandFailed, failed } from "./exit.ts"
import { shellWord } from "./shell.ts"
import { ofSchema } from "./watchLine.ts"

/** Whose rights a command needs: those of the owner to install and watch, else those of a role. */
export type NeededRights = RoleRights | "owner"

/** What a socket says of a server that cannot be reached. A file that cannot be read has codes as well. */
const unreached =
  /\b(?:connect|getaddrinfo|read|write) (ECONNREFUSED|ECONNRESET|EHOSTUNREACH|ENETUNREACH|ENOENT|ENOTFOUND|EAI_AGAIN|EPIPE|ETIMEDOUT)\b|^Connection timed out$/

/** Codes of PostgreSQL on a standby: it is read-only, and has no LISTEN and NOTIFY. */
const onlyReads = new Set(["25006", "55000"])

/** No command does its work there, except doctor. */
export const standby =
  "The database is a standby, or is read-only. Give the URL of the primary with --database."

/** What a pooler or another database does to LISTEN, in the words of the flags. */
export const undelivered =
  "A notification through --database did not arrive on the link. A transaction pooler such as PgBouncer drops LISTEN, and another database has other notifications: give the direct URL of the same database with --listen."

/** The error, and the causes in it from the outside in. */
const chain = (error: unknown): ReadonlyArray<unknown> =>
  error instanceof Error && !isSqlError(error) && error.cause !== undefined
    ? [error, ...chain(error.cause)]
    : [error]

/** A refusal whose cure depends on the role and on what is installed. */
type CurableRefusal =
  | { readonly kind: "missing" }
  | { readonly kind: "outdated"; readonly fault: OutdatedInstall }
  | { readonly kind: "forbidden"; readonly reason: string }

const refusalIn = (error: unknown, schema: string): CurableRefusal | undefined => {
  for (const one of chain(error)) {
    if (one instanceof NotInstalled || isMissing(one)) return { kind: "missing" }
    if (one instanceof OutdatedInstall) return { kind: "outdated", fault: one }
    if (one instanceof BusForbidden) {
      return { kind: "forbidden", reason: `permission denied for table ${schema}.bus_secrets` }
    }
    if (one instanceof DatabaseRefused && one.code === "42501") {
      return { kind: "forbidden", reason: one.reason }
    }
    if (isForbidden(one)) return { kind: "forbidden", reason: sqlMessage(one) }
  }
  return undefined
}

/** A sentence for an error whose cure is the same for every role. */
const plain = (error: unknown, schema: string): string => {
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
  const inner = chain(error).at(-1)
  if (onlyReads.has(sqlState(inner) ?? "") && /recovery|read-only/.test(sqlMessage(inner))) {
    return standby
  }
  const text = isSqlError(error) ? explained(error, schema) : errorText(error)
  return unreached.test(text)
    ? `The database cannot be reached: ${isSqlError(inner) ? sqlMessage(inner) : text}. Check the host and port of the database URL, and that the server runs.`
    : text
}

/** What the catalogs say about the role of a command, each name as it stands in SQL. */
interface Facts {
  readonly name: string
  readonly role: string
  readonly database: string
  /** Whether the role may create a schema. */
  readonly creates: boolean
  /** The owner of the schema of the objects; `null` where there is none. */
  readonly owner: string | null
  /** Whether the role has the rights of that owner. */
  readonly owns: boolean | null
}

const factsOf = (sql: PgClient.PgClient, schema: string) =>
  Effect.map(
    sql<Facts>`select current_user::text as name, quote_ident(current_user) as role, quote_ident(current_database()) as database,
  has_database_privilege(current_database(), 'create') as creates, n.owner, n.owns
from (select) one left join (select quote_ident(pg_get_userbyid(nspowner)) as owner, pg_has_role(nspowner, 'usage') as owns
  from pg_namespace where nspname = ${schema}) n on true`,
    ([row]) => row!
  )

/** The owners of tables of a name, of whose rights the role has none. */
const ownersOf = (sql: PgClient.PgClient, table: string) =>
  sql<{ readonly owner: string; readonly isSuper: boolean }>`
select distinct quote_ident(r.rolname) as owner, r.rolsuper as "isSuper" from pg_class c join pg_roles r on r.oid = c.relowner
where c.relname = ${table} and c.relkind in ('r', 'p') and not pg_has_role(r.oid, 'usage') order by 1`

const lines = (sentence: string, ...rest: ReadonlyArray<string>): string =>
  [sentence, ...rest.map((line) => `  ${line}`)].join("\n")

/** Whether the role may install: with the rights of the owner of the schema, or by creating the schema. */
const mayInstall = ({ creates, owner, owns }: Partial<Facts>): boolean =>
  (owner === null ? creates : owns) === true

/** The line that installs. */
const installLine = (schema: string, needs: NeededRights, facts: Partial<Facts>) => {
  const { name } = facts
  return `npx effect-realtime sql${ofSchema(schema)}${
    needs === "owner" || name === undefined || mayInstall(facts)
      ? ""
      : ` --${needs}-role ${shellWord(name)}`
  } --apply`
}

const whoInstalls = (facts: Partial<Facts>): string => {
  const { name, owner } = facts
  if (mayInstall(facts)) return "Run"
  return owner === null || owner === undefined
    ? `Let a role that may create a schema${name === undefined ? "" : ", which this one may not,"} run`
    : `Let role ${owner}, which owns the schema, run`
}

/** What to add where another schema has the objects: a user would install them twice. */
export const elsewhereText = (schemas: ReadonlyArray<string>): string =>
  schemas.length === 0
    ? ""
    : ` Schema ${schemas.join(" and ")} has them: if you mean that one, give ${schemas.map((one) => `--schema ${shellWord(one)}`).join(" or ")}.`

const missingText = (
  schema: string,
  needs: NeededRights,
  facts: Partial<Facts>,
  installed: ReadonlyArray<string> = []
): string => {
  const what = installed.includes(schema)
    ? `The database does not have all objects of effect-realtime in schema ${schema}.`
    : `The database does not have the objects of effect-realtime in schema ${schema}.${elsewhereText(installed)}`
  return lines(`${what} ${whoInstalls(facts)}:`, installLine(schema, needs, facts))
}

const outdatedText = (
  { installed, needed }: OutdatedInstall,
  schema: string,
  facts: Partial<Facts>
): string =>
  lines(
    `The database has version ${installed} of the objects of effect-realtime in schema ${schema}, and this version needs ${needed}. ${whoInstalls(facts)}, which keeps messages and cursors:`,
    installLine(schema, "owner", facts)
  )

/** Why an owner's work is refused: in its order, the schema, the roles, the objects, and a table. */
const ownersText = Effect.fnUntraced(function* (
  sql: PgClient.PgClient,
  reason: string,
  schema: string,
  { database, owner, owns, role }: Facts
) {
  if (reason.startsWith("permission denied for database ")) {
    return lines(
      `${reason}: role ${role} may not create a schema in it. Run this as its owner, or let its owner run with psql:`,
      `grant create on database ${database} to ${role};`
    )
  }
  if (reason.startsWith("permission denied to create role")) {
    return lines(
      `${reason}: role ${role} may not create roles. Let a superuser create the roles of --node-role and --app-role before, or let it run with psql:`,
      `alter role ${role} createrole;`
    )
  }
  if (owner !== null && owns !== true) {
    return `${reason}: role ${owner} owns the schema ${schema} and its objects. Run this as role ${owner}, with its name as the user of --database.`
  }
  const [, named] = /(?:table|relation) "?([^"]+)"?$/.exec(reason) ?? []
  const owners = named === undefined ? [] : yield* ownersOf(sql, named)
  if (owners.length === 0) {
    return `${reason}. Run this as a role that owns the schema ${schema} and the tables.`
  }
  const who = `${reason}: role ${owners.map(({ owner }) => owner).join(" or ")} owns the table.`
  return owners.some(({ isSuper }) => isSuper)
    ? `${who} Run this as that role, with its name as the user of --database.`
    : lines(
        `${who} Who watches it needs the rights of its owner too. Let a superuser run with psql:`,
        ...owners.map((one) => `grant ${one.owner} to ${role};`)
      )
})

const words = { app: "to publish", node: "of a node" } as const

/** The rights that the role lacks, where it lacks some. */
const rightsText = Effect.fnUntraced(function* (
  sql: PgClient.PgClient,
  reason: string,
  schema: string,
  needs: RoleRights
) {
  const { name, owner, role } = yield* factsOf(sql, schema)
  const grants = yield* grantsMissing(sql, name, needs)
  if (grants.length === 0) return undefined
  return lines(
    `${reason}: role ${role} lacks ${grants.length} of the rights ${words[needs]}. Let role ${owner ?? "that owns them"}, which owns the objects, run:`,
    installLine(schema, needs, { name }),
    "or with psql:",
    ...grants.map((statement) => `${statement};`)
  )
})

/** The user that a URL names, as it stands in SQL. */
const userOf = (database: Redacted.Redacted): string => {
  const { searchParams, username } = new URL(Redacted.value(database))
  const name = lastOf(searchParams, "user") ?? decodeURIComponent(username)
  return name === "" ? "<the user of --database>" : identifier(name)
}

/** How long the database has to say what the cure depends on. */
const patience = "5 seconds"

const curedText = (place: Place, needs: NeededRights, refusal: CurableRefusal) =>
  Effect.gen(function* () {
    const { database, schema } = place
    // The role of either may be the one that is refused.
    const urls = [database, ...Option.toArray(place.listen ?? Option.none())]
    const closed = refusal.kind === "forbidden" ? closedDatabase(refusal.reason) : undefined
    if (closed !== undefined) {
      return lines(
        `permission denied for database ${closed}: the role may not connect to it. Let its owner run with psql:`,
        `grant connect on database ${closed} to ${[...new Set(urls.map(userOf))].join(", ")};`
      )
    }
    return yield* Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const facts = yield* factsOf(sql, schema)
      switch (refusal.kind) {
        case "missing":
          return missingText(schema, needs, facts, yield* installedSchemas(sql))
        case "outdated":
          return outdatedText(refusal.fault, schema, facts)
        case "forbidden":
          if (needs === "owner") return yield* ownersText(sql, refusal.reason, schema, facts)
          for (const url of urls) {
            const lacking = yield* PgClient.PgClient.use((session) =>
              rightsText(session, refusal.reason, schema, needs)
            ).pipe(Effect.provide(layerDatabase({ database: url, schema })))
            if (lacking !== undefined) return lacking
          }
          return `${refusal.reason}. Role ${facts.role} has all rights ${words[needs]}.`
      }
    }).pipe(
      Effect.timeout(patience),
      Effect.provide(layerDatabase(place)),
      // The database went away meanwhile.
      Effect.catch(() =>
        Effect.succeed(
          refusal.kind === "missing"
            ? missingText(schema, needs, {})
            : refusal.kind === "outdated"
              ? outdatedText(refusal.fault, schema, {})
              : `${refusal.reason}. Run effect-realtime doctor, which lists the rights that are missing.`
        )
      )
    )
  })

/** A sentence for the user, with the cure where one is known. */
export const sentenceOf =
  (place: Place, needs: NeededRights) =>
  (error: unknown): Effect.Effect<string> => {
    if (error instanceof CommandFailed) return Effect.succeed(error.message)
    const refusal = refusalIn(error, place.schema)
    return refusal === undefined
      ? Effect.succeed(plain(error, place.schema))
      : curedText(place, needs, refusal)
  }

/** Ends the command with the sentence of an error. */
export const failedBy = (place: Place, needs: NeededRights) => (error: unknown) =>
  error instanceof CommandFailed
    ? Effect.fail(error)
    : Effect.flatMap(sentenceOf(place, needs)(error), (message) => Effect.fail(failed(message)))

/** Runs a command in its database, and ends it with a sentence where it fails. */
export const inDatabase =
  (place: Place, needs: NeededRights) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>) =>
    effect.pipe(Effect.provide(layerDatabase(place)), Effect.catch(failedBy(place, needs)))
