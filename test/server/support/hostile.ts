/**
 * Sessions as other applications configure them: settings that change how a value is written, names
 * that shadow those of PostgreSQL, and a role that may only change the tables.
 */
import { PgConnection } from "@effect/sql-pg"
import { Effect, Redacted, type Scope } from "effect"
import type { SqlError } from "effect/sql/SqlError"
import { execute, TestDatabase } from "../../support/database.ts"

/** Names that a trigger could call by mistake; no statement of a user calls them. */
const traps: ReadonlyArray<string> = [
  `create schema hostile`,
  ...[
    "to_json(anyelement)",
    "to_jsonb(anyelement)",
    "row_to_json(record)",
    "pg_notify(text, text)",
    "octet_length(text)",
    "current_setting(text, boolean)",
    "set_config(text, text, boolean)",
    "pg_trigger_depth()",
    "hostile_concat(text, text)"
  ].map(
    (signature) => `create function hostile.${signature} returns text language plpgsql as
      $$ begin raise exception 'a trigger called something of its user'; end $$`
  ),
  `create operator hostile.|| (leftarg = text, rightarg = text, function = hostile.hostile_concat)`
]

/** Money is written by the system's locale. */
const money = `do $$ begin set lc_monetary = 'de_DE.UTF-8'; exception when others then null; end $$`

/**
 * The settings of each kind of session, as statements. `visitor` is a role with rights on the
 * tables alone.
 */
const kinds = (visitor: string): ReadonlyArray<ReadonlyArray<string>> => [
  [
    `set timezone = 'America/New_York'`,
    `set datestyle = 'German'`,
    `set intervalstyle = 'sql_standard'`,
    `set bytea_output = 'escape'`,
    `set extra_float_digits = -15`,
    `set standard_conforming_strings = off`,
    `set escape_string_warning = off`,
    money
  ],
  [
    `set timezone = 'Asia/Kathmandu'`,
    `set datestyle = 'SQL, DMY'`,
    `set intervalstyle = 'iso_8601'`,
    `set xmlbinary = 'hex'`,
    `set quote_all_identifiers = on`,
    `set search_path = hostile, pg_catalog, public`,
    `set plan_cache_mode = force_generic_plan`
  ],
  [
    `set timezone = '<-05:30>+05:30'`,
    `set datestyle = 'Postgres, MDY'`,
    `set intervalstyle = 'postgres_verbose'`,
    `set extra_float_digits = 0`,
    `set role ${visitor}`
  ],
  [
    `set row_security = off`,
    `set array_nulls = off`,
    `set xmloption = document`,
    `set enable_nestloop = off`,
    `set enable_seqscan = off`,
    `set plpgsql.extra_errors = 'all'`,
    `set client_min_messages = debug1`,
    `set plan_cache_mode = force_custom_plan`
  ]
]

/** A session with default settings. */
export const plain: Effect.Effect<PgConnection.PgConnection, SqlError, TestDatabase | Scope.Scope> =
  Effect.flatMap(TestDatabase, ({ url }) => PgConnection.make({ url: Redacted.make(url) }))

/** The role, and a session of each kind. The role is dropped with the scope. */
export const hostility = Effect.gen(function* () {
  const { name, url } = yield* TestDatabase
  const visitor = `visitor_${name}`
  const owner = yield* plain
  // The rights of the role are revoked before it is dropped.
  yield* Effect.acquireRelease(execute(url, `create role ${visitor}`), () =>
    Effect.orDie(
      Effect.andThen(execute(url, `drop owned by ${visitor}`), execute(url, `drop role ${visitor}`))
    )
  )
  yield* Effect.forEach(traps, (trap) => owner.query(trap), { discard: true })
  const sessions = Effect.forEach(kinds(visitor), (settings) =>
    Effect.gen(function* () {
      const session = yield* plain
      for (const setting of settings) yield* session.query(setting, [], false)
      return session
    })
  )
  return { visitor, sessions }
})
