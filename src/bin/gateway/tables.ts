/**
 * The tables of a gateway: their keys and columns as the database describes them, and the triggers that
 * watch them, which the gateway installs where its role may.
 */
import * as Effect from "effect/Effect"
import { SqlClient } from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import type { AnyTable } from "../../ChannelTable.ts"
import { isForbidden, sqlMessage, sqlState } from "../../server/internal/link/sqlState.ts"
import { tables as watchedTables } from "../../server/internal/link/watched.ts"
import { objects } from "../../server/internal/sql/objects.ts"
import { SchemaName } from "../../server/internal/sql/schemaName.ts"
import { patience } from "../../server/internal/sql/script.ts"
import * as PgInstaller from "../../server/PgInstaller.ts"
import type { Served } from "./access.ts"
import { type Described, definitionOf, needsOf } from "./channels.ts"
import { type ColumnType, fits } from "./columns.ts"
import * as Config from "./config.ts"
import type { Named } from "./given.ts"
import {
  type WatchFound,
  ownersLine,
  type WatchNeeds,
  type Plan,
  planned,
  watchedName
} from "./watches.ts"

type NamedTable = Named<Config.Table>

const invalid = (where: string, reason: string) => new Config.InvalidGateway({ where, reason })

/** Runs what throws `InvalidGateway`. */
const checked = <A>(make: () => A) =>
  Effect.try({ try: make, catch: (error) => error as Config.InvalidGateway })

interface DescribedTable extends NamedTable {
  readonly described: Described & {
    readonly rel: number
    readonly types: ReadonlyMap<string, ColumnType>
  }
  readonly needs: WatchNeeds
}

const describe = ({ config, name, place }: NamedTable) =>
  Effect.gen(function* () {
    const sql = (yield* SqlClient).withoutTransforms()
    const { schema = "public" } = config
    const rows = yield* sql<{
      readonly rel: number
      readonly name: string
      readonly key: number | null
      readonly type: number
      readonly labels: ReadonlyArray<string>
    }>`
      select c.oid::int8::float8 as rel, a.attname as name,
        array_position((i.indkey::int2[])[0:i.indnkeyatts - 1], a.attnum) as key, a.atttypid::int8::float8 as type,
        array(select e.enumlabel::text from pg_enum e where e.enumtypid = a.atttypid) as labels
      from pg_attribute a
      join pg_class c on c.oid = a.attrelid and c.relname = ${name} and c.relkind in ('r', 'p')
      join pg_namespace n on n.oid = c.relnamespace and n.nspname = ${schema}
      left join pg_index i on i.indrelid = c.oid and i.indisprimary
      where a.attnum > 0 and not a.attisdropped
      order by a.attnum`
    if (rows.length === 0) {
      return yield* invalid(
        place,
        `The database has no table "${schema}.${name}". Create it, or name its schema.`
      )
    }
    const key = rows.filter((row) => row.key !== null).toSorted((a, b) => a.key! - b.key!)
    return {
      rel: rows[0]!.rel,
      columns: rows.map((row) => row.name),
      types: new Map(rows.map(({ labels, name, type }) => [name, { labels, type }])),
      key: key.map((row) => row.name)
    }
  })

/** How the table is watched; `unread` where the role may not read it or nothing is installed. */
const found = ({ described: { rel }, needs: { channel } }: DescribedTable) =>
  Effect.gen(function* () {
    const known = yield* watchedTables(yield* SqlClient)
    if (known === undefined) return "unread" as const
    const sharing = known.filter((one) => one.channel === channel)
    const own = sharing.find((one) => one.rel === rel)
    return own === undefined ? undefined : ({ ...own, shared: sharing.length > 1 } as WatchFound)
  })

const planOf = (table: DescribedTable, watch: WatchFound | undefined) =>
  Effect.flatMap(SchemaName, (schema) => checked(() => planned(table.needs, watch, schema)))

const definition = ({ config, described, name, place }: DescribedTable, lists: Plan["serves"]) =>
  checked(() => definitionOf(place, name, config, described, lists))

/** That `realtime.watch` holds, so that two gateways that start together see what the other one wrote. */
const alone = "select pg_advisory_xact_lock(hashtextextended('effect-realtime watch', 0))"

/** Calls `realtime.watch` with what is there: it makes triggers anew that are gone or of an earlier version. */
const again = `select realtime.watch(w.rel, w.channel, w.names, w.old, w.max_bytes, w.level, w.delivery,
  d ->> 'insert', d ->> 'update', d ->> 'delete', coalesce((d ->> 'always')::boolean, false), true,
  realtime.list_of(d -> 'key'), realtime.list_of(d -> 'by'), realtime.list_of(d -> 'filter'), realtime.list_of(d -> 'boundary'))
from realtime.watched w cross join lateral (select w.definition) x(d)
where w.rel = $1::oid and w.channel = $2
  -- The names are those of before a column was renamed. The next look of a node follows it.
  and not exists (select from unnest(w.names) n where not exists (
    select from pg_attribute a where a.attrelid = w.rel and a.attname = n and a.attnum = any(w.columns) and not a.attisdropped))`

const deadlockDetected = "40P01"

/** Watches the table as it has to be, in one transaction with the look at how it is. */
const watched = (table: DescribedTable) =>
  Effect.gen(function* () {
    const sql = (yield* SqlClient).withoutTransforms()
    const client = yield* objects(sql)
    return yield* sql.withTransaction(
      Effect.gen(function* () {
        yield* sql.unsafe(patience(undefined))
        yield* client.unsafe(alone)
        const there = yield* found(table)
        const plan = yield* planOf(table, there === "unread" ? undefined : there)
        if (plan.watch === undefined) {
          yield* client.unsafe(again, [table.described.rel, table.needs.channel])
        } else {
          const { lists, options } = plan.watch
          yield* PgInstaller.watch({ ...options, channel: yield* definition(table, lists) })
        }
        return plan
      })
    )
  }).pipe(
    Effect.retry({ times: 5, while: (error) => sqlState(error) === deadlockDetected }),
    Effect.mapError((error) => {
      if (error instanceof PgInstaller.WatchRefused) return invalid(table.place, error.message)
      return sqlState(error)?.startsWith("RT") === true
        ? invalid(table.place, sqlMessage(error))
        : error
    })
  )

/** The plan of a gateway that may not watch: it serves what is there, where that has what its rules need. */
const unchanged = (table: DescribedTable) =>
  Effect.gen(function* () {
    const there = yield* found(table)
    if (there === "unread") return { ...(yield* planOf(table, undefined)), changes: [] }
    const plan = yield* planOf(table, there)
    if (plan.watch === undefined) return plan
    const { lists, options } = plan.watch
    const line = ownersLine(table.needs, lists, options, yield* SchemaName)
    if (there !== undefined) {
      return yield* invalid(
        table.place,
        `Its rules and filters need other columns beside the events of table ${watchedName(table.needs)} than it is watched with. Let the owner of the table run: ${line}`
      )
    }
    yield* Effect.logWarning(
      `Table ${watchedName(table.needs)} is not watched for channel "${table.needs.channel}", so no change of it reaches a client. Let the owner of the table run: ${line}`
    )
    return { ...plan, changes: [] }
  })

/** The tables with their definitions. With `mayWatch` it watches those that need it, and says what it changed. */
export const servedTables = (tables: ReadonlyArray<NamedTable>, mayWatch: boolean) =>
  Effect.forEach(tables, (named) =>
    Effect.gen(function* () {
      const described = yield* describe(named)
      const needs = yield* checked(() => needsOf(named.place, named.name, named.config, described))
      const table = { ...named, described, needs }
      const plan = yield* mayWatch
        ? Effect.catchIf(watched(table), isForbidden, () => unchanged(table))
        : unchanged(table)
      for (const change of plan.changes) yield* Effect.logInfo(`${change}.`)
      const served: Served & { readonly definition: AnyTable } = {
        definition: yield* definition(table, plan.serves),
        read: named.config.read,
        publish: undefined,
        fits: (column, value) => fits(described.types.get(column)!, value)
      }
      return served
    })
  )

/**
 * Installs the objects where something is missing, and says whether the role may. With one that may not, the
 * gateway starts with what is there, and fails when no objects are.
 */
export const install: Effect.Effect<
  boolean,
  PgInstaller.InstallError | PgInstaller.NotInstalled | PgInstaller.OutdatedInstall | SqlError,
  SqlClient
> = PgInstaller.install().pipe(
  Effect.as(true),
  Effect.catchIf(isForbidden, () =>
    PgInstaller.check.pipe(
      Effect.andThen(
        Effect.logWarning(
          "The role of the gateway may not install, so it uses the objects that are there. Start it with --no-install to keep it from trying."
        )
      ),
      Effect.as(false)
    )
  )
)
