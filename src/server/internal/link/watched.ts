/**
 * Warns of a channel that does not receive the changes of its table, and of faults of a watched table.
 *
 * A live channel does not receive the changes of a table that writes to the outbox, nor the reverse. No
 * channel receives those of a table that is not watched, was dropped, or lost its primary key. None of this
 * fails anything, so it is logged here. The node reads the watched tables once, on the pool, and looks at
 * them every 10 s. A read that fails is skipped.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { SqlClient } from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import type { Any, AnyFamily, Delivery, Table } from "../../../ChannelBase.ts"
import { Defects } from "../notices.ts"
import { objects } from "../sql/objects.ts"
import { SchemaName } from "../sql/schemaName.ts"
import { onlyState } from "../sql/state.ts"
import { untraced } from "../tracing.ts"
import { differences, type Installed, mismatches } from "./tableSchema.ts"

/** A watched table. */
export interface WatchedTable {
  readonly channel: string
  readonly table: string
  readonly delivery: Exclude<Delivery, "volatile">
  /** The number of the table. */
  readonly rel: number
  readonly definition: Installed
}

/** Checks the privileges first: without them the next statement would log an error in the database. */
const readable = `select from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname = 'realtime' and c.relname = 'watched'
  and has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'select')`

const watched = `select channel, rel::text as table, delivery, rel::oid::int8::float8 as rel,
  definition || jsonb_build_object('key', array(select a.attname::text from pg_index i
    join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any(i.indkey[0:i.indnkeyatts - 1])
    where i.indrelid = w.rel and i.indisprimary),
    -- A renamed column has its new name here.
    'columns', case when w.columns is not null then array(select a.attname::text from pg_attribute a
      where a.attrelid = w.rel and a.attnum = any(w.columns) and not a.attisdropped order by a.attnum) end) as definition
from realtime.watched w`

/** The watched tables; `undefined` where nothing is installed or the role may not read it. */
export const tables = (
  sql: SqlClient
): Effect.Effect<ReadonlyArray<WatchedTable> | undefined, SqlError> =>
  Effect.gen(function* () {
    const client = yield* objects(sql)
    if ((yield* client.unsafe(readable)).length === 0) return undefined
    return yield* client.unsafe<WatchedTable>(watched)
  }).pipe(untraced)

export interface Watched {
  /** Reads the tables once. Never fails, and takes 2 s at most. */
  readonly load: Effect.Effect<unknown>
  /** Logs, in the background and once, when the channel does not receive the changes of its table. */
  readonly compare: (channel: string) => Effect.Effect<void>
  /** The same for a definition, and where it differs from its table and from how that is watched. */
  readonly check: (definition: Any | AnyFamily) => Effect.Effect<void>
}

/** The channel of the table of a route, or the channel itself: a table of version 3 may have a colon there. */
export const ofTable = (
  channel: string,
  known: ReadonlyArray<Pick<WatchedTable, "channel">>
): string =>
  channel.startsWith("table_updates_") && !known.some((table) => table.channel === channel)
    ? channel.split(":", 1)[0]!
    : channel

/** Says that no change reaches a channel of this delivery; `other` is a watch for the other one. */
export const unreachedText = (
  own: Delivery,
  channel: string,
  other: Pick<WatchedTable, "delivery" | "table"> | undefined
): string =>
  other === undefined
    ? `No table is watched for the ${own} channel "${channel}": no change reaches it. Watch the table with delivery ${own} (PgInstaller.watch, or npx effect-realtime sql --watch).`
    : `Changes of table ${other.table} do not reach the ${own} channel "${channel}": the table is watched with delivery ${other.delivery}. Define the channel with { delivery: "${other.delivery}" }, or watch the table with delivery ${own} (PgInstaller.watch, or npx effect-realtime sql).`

const watchOf = ({ channel }: Table, own: Delivery, known: ReadonlyArray<WatchedTable>) =>
  known.find((one) => one.channel === channel && one.delivery === own)

/** Where the definition of a table differs from its watch and from its columns. */
export const tableFaults = (
  sql: SqlClient,
  table: Table,
  own: Delivery,
  known: ReadonlyArray<WatchedTable>
): Effect.Effect<ReadonlyArray<string>, SqlError> =>
  Effect.gen(function* () {
    const { channel } = table
    const watch = watchOf(table, own, known)
    if (watch === undefined) return []
    const texts: Array<string> = []
    const sharing = known.filter((one) => one.channel === channel && one.delivery === own)
    if (own === "durable" && sharing.length > 1) {
      texts.push(
        `${sharing.length} tables are watched for channel "${channel}": ${sharing.map((one) => one.table).join(", ")}. It has no state, so its rows cannot be read. Watch each table for a channel of its own.`
      )
    }
    const differing = differences(table, watch.definition)
    if (differing.length > 0) {
      texts.push(
        `Table ${watch.table} is watched for channel "${channel}" with other options than its definition: ${differing.join("; ")}. Watch it again with the definition (PgInstaller.watch, or npx effect-realtime sql --definitions).`
      )
    }
    const unfit = yield* mismatches(sql.withoutTransforms(), table, watch.rel)
    if (unfit.length > 0) {
      texts.push(
        `The Schema of channel "${channel}" does not match the rows of table ${watch.table}: ${unfit.join("; ")}. A row that does not match becomes a gap invalid.`
      )
    }
    return texts
  })

export const make = (sql: SqlClient, own: Delivery): Effect.Effect<Watched, never, Scope.Scope> =>
  Effect.gen(function* () {
    const scope = yield* Effect.scope
    const read = Effect.provideService(tables(sql), SchemaName, yield* SchemaName)
    /** The channels that were logged; each is logged once. */
    const told = new Set<string>()
    const load = yield* read.pipe(
      Effect.timeout("2 seconds"),
      Effect.catch((error) =>
        Effect.as(Effect.logDebug("The watched tables were not read", error), undefined)
      ),
      Effect.cached
    )
    const compare: Watched["compare"] = (opened) =>
      Effect.gen(function* () {
        const known = yield* load
        if (known === undefined) return
        const channel = ofTable(opened, known)
        // A client may ask for any name of a family.
        if (told.has(channel) || told.size >= maxTold) return
        const of = known.filter((table) => table.channel === channel)
        if (of.some(({ delivery }) => delivery === own)) return
        const [other] = of
        if (other === undefined && !channel.startsWith("table_updates_")) return
        told.add(channel)
        // Watched since the first read. A read that fails says nothing, and the next one may.
        const now =
          (yield* Effect.tapCause(read, () => Effect.sync(() => told.delete(channel)))) ?? []
        if (now.some((table) => table.channel === channel && table.delivery === own)) return
        yield* Effect.logWarning(unreachedText(own, channel, other))
      }).pipe(Effect.ignore, Effect.forkIn(scope), Effect.asVoid)
    const compareTable = (table: Table) =>
      Effect.gen(function* () {
        let known = (yield* load) ?? []
        const watch = watchOf(table, own, known)
        if (watch === undefined || differences(table, watch.definition).length > 0) {
          // Watched since the first read.
          known = (yield* read) ?? []
        }
        for (const text of yield* tableFaults(sql, table, own, known))
          yield* Effect.logWarning(text)
      }).pipe(Effect.timeout("10 seconds"), Effect.ignore, Effect.forkIn(scope), Effect.asVoid)

    const check: Watched["check"] = (definition) => {
      const { table } = definition
      if (table !== undefined) return Effect.andThen(compare(table.channel), compareTable(table))
      return definition._tag === "Channel" ? compare(definition.name) : Effect.void
    }
    return { load, compare, check }
  })

/** A watched table whose changes do not arrive. */
interface Trouble {
  readonly rel: string
  readonly channel: string
  readonly trouble: string
}

/** The watched tables whose changes do not arrive, without a change of anything. */
export const troubles = (
  client: Pick<SqlClient, "unsafe">
): Effect.Effect<ReadonlyArray<Trouble>, SqlError> =>
  client.unsafe<Trouble>("select rel, channel, trouble from realtime.troubles()")

export const troubleText = ({ channel, rel, trouble }: Trouble): string => {
  const of = channel === "" ? "" : ` (channel "${channel}")`
  return `Watched table ${rel}${of}: ${trouble}.`
}

/** Changes of a table whose rows are on no route. */
interface Unrouted {
  readonly rel: string
  readonly channel: string
  readonly columns: string
  /** Since the table is watched. */
  readonly rows: number
}

/** The changes of rows on no route, by table. */
export const unrouted = (
  client: Pick<SqlClient, "unsafe">
): Effect.Effect<ReadonlyArray<Unrouted>, SqlError> =>
  client.unsafe<Unrouted>(
    "select rel, channel, columns, rows::float8 as rows from realtime.unrouted()"
  )

export const unroutedText = ({ channel, columns, rel, rows }: Unrouted): string =>
  `${rows} change(s) of table ${rel} reached no subscriber since it is watched for "${channel}": the rows are on no route, because ${columns} is NULL, or is not one or more of A-Z a-z 0-9 _ . - within the 63 bytes of a name.`

/** The most channels of which a node logs that no change reaches them. */
const maxTold = 100

/** The time between two looks at the watched tables. */
const every = "10 seconds"

const mayLook = `select from pg_proc p join pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'realtime' and p.proname = 'look'
  and has_schema_privilege(n.oid, 'usage') and has_function_privilege(p.oid, 'execute')`

/**
 * Looks at the watched tables until the scope closes. The database rewrites the triggers of altered tables
 * and sends a gap where events were lost; a new fault is logged once.
 */
export const looking = (sql: SqlClient): Effect.Effect<void, never, Scope.Scope> =>
  Effect.flatMap(objects(sql), (client) => {
    /** The counts that were logged: each is logged again when it has doubled. */
    const logged = new Map<string, number>()
    const defects = new Defects()
    return Effect.gen(function* () {
      if ((yield* client.unsafe(mayLook)).length === 0) return
      const found = yield* client.unsafe<Trouble>(
        "select rel, channel, trouble from realtime.look()"
      )
      for (const { channel, rel, trouble } of found) {
        const outcome = trouble.endsWith(onlyState)
          ? "Its events arrive."
          : "Its subscribers received a gap. Watch it again, or call realtime.unwatch."
        yield* Effect.logWarning(
          `Table ${rel} is watched for channel "${channel}", but ${trouble}. ${outcome}`
        )
      }
      for (const one of yield* unrouted(client)) {
        if (one.rows < 2 * (logged.get(one.channel) ?? 0)) continue
        logged.set(one.channel, one.rows)
        yield* Effect.logWarning(unroutedText(one))
      }
    }).pipe(
      Effect.catch((error) => Effect.logDebug("The watched tables were not looked at", error)),
      Effect.catchDefect((defect) => defects.logged("The look at the watched tables", defect)),
      Effect.andThen(Effect.sleep(every)),
      Effect.forever,
      Effect.annotateLogs("component", "effect-realtime tables"),
      untraced,
      Effect.forkScoped,
      Effect.asVoid
    )
  })
