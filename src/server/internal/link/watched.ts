/**
 * Warns of a channel that is opened with one delivery while its table is watched with the other.
 *
 * A live channel hears nothing of a table that writes to the outbox, and the other way round, and
 * nothing fails: so it is told here. The watched tables are read once, on the pool; what cannot be
 * found out is left.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { SqlClient } from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import type { Delivery } from "../../../ChannelBase.ts"

interface Table {
  readonly channel: string
  readonly table: string
}

/** The catalogs say whether the next may be asked: otherwise the database would log an error. */
const readable = `select from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname = 'realtime' and c.relname = 'watched'
  and has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'select')`

const watched = `select channel, rel::text as table from realtime.watched where delivery = $1`

/** The tables that are watched with this delivery; none where nothing is installed or may be read. */
export const tables = (
  sql: SqlClient,
  delivery: Delivery
): Effect.Effect<ReadonlyArray<Table>, SqlError> =>
  Effect.gen(function* () {
    const client = sql.withoutTransforms()
    if ((yield* client.unsafe(readable)).length === 0) return []
    return yield* client.unsafe<Table>(watched, [delivery])
  })

export interface Watched {
  /** Reads the tables, unless that was done. Never fails, and takes 2 s at most. */
  readonly load: Effect.Effect<unknown>
  /** Logs, in the background, when the table of this channel is watched with the other delivery. */
  readonly compare: (channel: string) => Effect.Effect<void>
}

export const make = (sql: SqlClient, own: Delivery): Effect.Effect<Watched, never, Scope.Scope> =>
  Effect.gen(function* () {
    const other = own === "live" ? "durable" : "live"
    const scope = yield* Effect.scope
    /** Each is told once. */
    const load = yield* tables(sql, other).pipe(
      Effect.timeout("2 seconds"),
      Effect.map((rows) => new Map(rows.map(({ channel, table }) => [channel, table]))),
      Effect.catch((error) =>
        Effect.as(
          Effect.logDebug("The watched tables were not read", error),
          new Map<string, string>()
        )
      ),
      Effect.cached
    )
    const compare: Watched["compare"] = (channel) =>
      Effect.flatMap(load, (differing) => {
        const table = differing.get(channel)
        if (table === undefined) return Effect.void
        differing.delete(channel)
        return Effect.logWarning(
          `Changes of table ${table} do not reach the ${own} channel "${channel}": the table is watched with delivery ${other}. Define the channel with { delivery: "${other}" }, or watch the table with delivery ${own} (PgInstaller.watch, or npx effect-realtime sql).`
        )
      }).pipe(Effect.forkIn(scope), Effect.asVoid)
    return { load, compare }
  })
