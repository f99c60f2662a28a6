/**
 * The tables of a gateway: their keys and columns as the database describes them, and the triggers that
 * watch them, which the gateway installs where its role may.
 */
import * as Effect from "effect/Effect"
import { SqlClient } from "effect/sql/SqlClient"
import type { AnyTable } from "../../ChannelTable.ts"
import { sqlState } from "../../server/internal/link/sqlState.ts"
import * as PgInstaller from "../../server/PgInstaller.ts"
import { type Described, servedTable } from "./channels.ts"
import * as Config from "./config.ts"

const describe = (name: string, schema: string) =>
  Effect.gen(function* () {
    const sql = (yield* SqlClient).withoutTransforms()
    const rows = yield* sql<{ readonly name: string; readonly key: number | null }>`
      select a.attname as name, array_position((i.indkey::int2[])[0:i.indnkeyatts - 1], a.attnum) as key
      from pg_attribute a
      join pg_class c on c.oid = a.attrelid and c.relname = ${name} and c.relkind in ('r', 'p')
      join pg_namespace n on n.oid = c.relnamespace and n.nspname = ${schema}
      left join pg_index i on i.indrelid = c.oid and i.indisprimary
      where a.attnum > 0 and not a.attisdropped
      order by a.attnum`
    if (rows.length === 0) {
      return yield* new Config.InvalidGateway({
        where: `tables.${name}`,
        reason: `The database has no table "${schema}.${name}". Create it, or name its schema.`
      })
    }
    const key = rows.filter((row) => row.key !== null).toSorted((a, b) => a.key! - b.key!)
    return { columns: rows.map((row) => row.name), key: key.map((row) => row.name) } as Described
  })

/** The definitions of the tables of a file. */
export const servedTables = (tables: Config.Config["tables"]) =>
  Effect.forEach(Object.entries(tables ?? {}), ([name, table]) =>
    describe(name, table.schema ?? "public").pipe(
      Effect.flatMap((described) =>
        Effect.try({
          try: () => servedTable(name, table, described),
          catch: (error) => error as Config.InvalidGateway
        })
      )
    )
  )

const isForbidden = (error: unknown): boolean => sqlState(error) === "42501"

/**
 * Installs the objects, and watches the tables, where something is missing. With a role that may not, the
 * gateway starts with what is there, and fails when no objects are.
 */
export const install = (tables: ReadonlyArray<AnyTable>) =>
  PgInstaller.install({ watch: tables }).pipe(
    Effect.catchIf(isForbidden, () =>
      Effect.andThen(
        PgInstaller.check,
        Effect.logWarning(
          "The role of the gateway may not install or watch, so it serves what is there. If a table has no events, let its owner run: effect-realtime sql --watch-durable <table> --apply"
        )
      )
    )
  )
