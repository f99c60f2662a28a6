/**
 * The tables of a gateway: their keys and columns as the database describes them, and the triggers that
 * watch them, which the gateway installs where its role may.
 */
import * as Effect from "effect/Effect"
import { SqlClient } from "effect/sql/SqlClient"
import type { AnyTable } from "../../ChannelTable.ts"
import { sqlState } from "../../server/internal/link/sqlState.ts"
import { differences } from "../../server/internal/link/tableSchema.ts"
import { tables as watchedTables } from "../../server/internal/link/watched.ts"
import * as PgInstaller from "../../server/PgInstaller.ts"
import { channelOf, type Described, servedTable } from "./channels.ts"
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

/** The definitions of the tables of a file, and those of them that are to be watched, or watched otherwise. */
export const servedTables = Effect.fnUntraced(function* (tables: Config.Config["tables"]) {
  const sql = yield* SqlClient
  const known = (yield* watchedTables(sql)) ?? []
  const unwatched: Array<AnyTable> = []
  const served = yield* Effect.forEach(Object.entries(tables ?? {}), ([name, table]) =>
    Effect.gen(function* () {
      const channel = channelOf(name, table)
      const watch = known.find((one) => one.channel === channel && one.delivery === "durable")
      const described = yield* describe(name, table.schema ?? "public")
      const one = yield* Effect.try({
        try: () => servedTable(name, table, { ...described, watched: watch?.definition }),
        catch: (error) => error as Config.InvalidGateway
      })
      const differing =
        watch === undefined ? [] : differences(one.definition.table!, watch.definition)
      if (watch === undefined || differing.length > 0) unwatched.push(one.definition)
      if (differing.length > 0) {
        yield* Effect.logWarning(
          `Table ${watch!.table} is watched otherwise than its rules need: ${differing.join("; ")}. Where the gateway may, it watches the table again, without the conditions and other options of before.`
        )
      }
      return one
    })
  )
  return { served, unwatched }
})

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
