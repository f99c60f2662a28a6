/**
 * What the catalogs say about an install, as statements that every role may run: they ask for the rights
 * first, because a statement without them would log an error in the database.
 */
import * as Effect from "effect/Effect"
import type { SqlClient } from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import { digest, missingFunctions } from "./index.ts"
import { literal } from "./literal.ts"
import { objects } from "./objects.ts"
import { comment } from "./ownership.ts"
import { wakeFunctions } from "./publish.ts"
import { missingGrants } from "./roles.ts"

/** Whether the schema has the objects. */
export const isInstalled = (sql: SqlClient): Effect.Effect<boolean, SqlError> =>
  Effect.gen(function* () {
    const client = yield* objects(sql)
    const found = yield* client.unsafe(
      `select from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = 'realtime' and c.relname = 'settings'`
    )
    return found.length > 0
  })

/** All schemas that have the objects of an install, that of this one too. */
export const installedSchemas = (sql: SqlClient): Effect.Effect<ReadonlyArray<string>, SqlError> =>
  Effect.map(
    sql.unsafe<{ readonly name: string }>(
      `select n.nspname::text as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where c.relname = 'settings' and obj_description(c.oid, 'pg_class') = ${literal(comment)} order by 1`
    ),
    (rows) => rows.map(({ name }) => name)
  )

/** Whether the outbox has a message of the channel; `undefined` where the role may not read it. */
export const hasMessages = (
  sql: SqlClient,
  channel: string
): Effect.Effect<boolean | undefined, SqlError> =>
  Effect.gen(function* () {
    const client = yield* objects(sql)
    const readable = yield* client.unsafe(
      `select from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = 'realtime' and c.relname = 'messages'
  and has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'select')`
    )
    if (readable.length === 0) return undefined
    const found = yield* client.unsafe(
      "select from realtime.messages m where m.channel = $1 limit 1",
      [channel]
    )
    return found.length > 0
  })

/** The names of the functions of an install of this version that are gone. */
export const functionsMissing = (sql: SqlClient): Effect.Effect<ReadonlyArray<string>, SqlError> =>
  Effect.gen(function* () {
    const client = yield* objects(sql)
    const rows = yield* client.unsafe<{ readonly name: string }>(missingFunctions)
    return rows.map(({ name }) => name)
  })

/** The grants that a role lacks of those of a node or of an application, as statements. */
export const grantsMissing = (
  sql: SqlClient,
  role: string,
  of: keyof typeof missingGrants = "node"
): Effect.Effect<ReadonlyArray<string>, SqlError> =>
  Effect.gen(function* () {
    const client = yield* objects(sql)
    const rows = yield* client.unsafe<{ readonly statement: string }>(missingGrants[of], [role])
    return rows.map(({ statement }) => statement)
  })

/** The install as its table of settings describes it. */
export interface InstallFacts {
  readonly version: number
  /** Whether it is exactly what this library installs. */
  readonly isOurs: boolean
  readonly wake: string
  /** How long messages are kept, in milliseconds. */
  readonly retention: number
  /** What is wrong with the trigger that wakes readers, or `undefined`. */
  readonly wakeFault: string | undefined
}

/** Fails where nothing is installed or the role may not read it. */
export const installFacts = (sql: SqlClient): Effect.Effect<InstallFacts, SqlError> =>
  Effect.gen(function* () {
    const client = yield* objects(sql)
    const [row] = yield* client.unsafe<{
      readonly version: number
      readonly digest: string
      readonly wake: string
      readonly retention: number
      readonly name: string | null
      readonly enabled: string | null
    }>(
      `select s.version, s.digest, s.wake, (extract(epoch from s.retention) * 1000)::float8 as retention, p.proname::text as name, t.tgenabled::text as enabled
  from realtime.settings s
  left join pg_trigger t on t.tgrelid = 'realtime.messages'::regclass and t.tgname = 'wake'
  left join pg_proc p on p.oid = t.tgfoid`
    )
    const { digest: found, enabled, name, retention, version, wake } = row!
    const wanted = wakeFunctions[wake] ?? null
    const wakeFault =
      name !== wanted
        ? name === null
          ? "the trigger that wakes readers is gone"
          : "the trigger on the outbox does not do what the setting says"
        : name !== null && enabled !== "A"
          ? "the trigger that wakes readers is not always enabled"
          : undefined
    return { version, isOurs: found === digest, wake, retention, wakeFault }
  })

/** The age of the oldest message in milliseconds, but for the one that pruning always leaves; 0 for none. */
export const oldestAge = (sql: SqlClient): Effect.Effect<number, SqlError> =>
  Effect.gen(function* () {
    const client = yield* objects(sql)
    const [row] = yield* client.unsafe<{ readonly age: number }>(
      `select (extract(epoch from clock_timestamp() - m.created_at) * 1000)::float8 as age from realtime.messages m order by m.id limit 1 offset 1`
    )
    return row?.age ?? 0
  })
