/** A table to watch, and the statement that watches it. */
import * as Effect from "effect/Effect"
import type { SqlClient } from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import type * as Channel from "../../../Channel.ts"
import { literal } from "./literal.ts"

/**
 * A table to watch: each changed row becomes one event. TRUNCATE becomes one that matches no schema, so
 * that subscribers receive a gap and read again. An UPDATE of the primary key is a DELETE and an INSERT.
 * The triggers run with the rights of the role that installed: watch tables of owners you trust.
 *
 * The table has a primary key that is not deferrable, and no table inherits from it; otherwise
 * `WatchRefused`. Partitions are supported: one that is attached later sends the events of its rows at
 * once, and its own TRUNCATE once the table is watched again. A table that inherits later is not detected.
 *
 * @category models
 * @since 0.1.0
 */
export interface Watch {
  /**
   * The channel, its name, or a definition of `Channel.table`, whose key, routes, filters and columns are
   * then watched. Its `delivery` decides whether events are durable.
   */
  readonly channel: Channel.Any | Channel.AnyTable | string
  /**
   * The table, by default in the schema `public`. Default: that of the definition, or what follows
   * `table_updates_` in the name of the channel.
   */
  readonly table?: string | { readonly schema: string; readonly name: string } | undefined
  /**
   * The columns in the events, default those of the definition, or all. An UPDATE that changes none of them has no event. A renamed
   * column stays in the list under its new name, a dropped one leaves it. A generated column is included
   * when it is stored. A virtual one (from PostgreSQL 18 on) is not, and is rejected here, because triggers
   * cannot read it.
   */
  readonly columns?: ReadonlyArray<string> | undefined
  /** Whether an UPDATE also carries the row as it was, default `false`. */
  readonly old?: boolean | undefined
  /**
   * SQL conditions over `new` and `old`, per operation, such as `{ insert: "new.published" }`. Default:
   * every row. This is SQL: never build it from user input. A table with conditions has no state.
   */
  readonly when?:
    | {
        readonly insert?: string | undefined
        readonly update?: string | undefined
        readonly delete?: string | undefined
      }
    | undefined
  /**
   * The largest event in bytes of UTF-8, default 8 MiB (durable) or 7,967 (live, where 32 bytes distinguish
   * equal events), which are also the maximum. A larger row travels as its key with `truncated: true`.
   */
  readonly maxBytes?: number | undefined
  /**
   * `row` (default) suits every table. `statement` is about four times cheaper where statements change many
   * rows, and more expensive where they change one. It is rejected for partitioned and inherited tables,
   * and has no `when`. Its events are written at the end of a statement, after your own triggers. At both
   * levels the last event of a row in a transaction has its state at commit.
   */
  readonly level?: "row" | "statement" | undefined
  /**
   * Default: that of the channel, or `live` when only its name is given. A node that starts later and opens
   * a channel of this name with the other delivery logs a warning: it receives no event of the table.
   */
  readonly delivery?: "durable" | "live" | undefined
  /**
   * Whether changes by an applier of logical replication, or by a session whose `session_replication_role`
   * is `replica`, have events too, default `false`. An applier fires no triggers at statement level.
   */
  readonly always?: boolean | undefined
  /**
   * Whether another table may have the same channel, default `false`: clients read all rows of a channel as
   * those of one table.
   */
  readonly shared?: boolean | undefined
}

const known = "table_updates_"

/** The table and the channel of a watch. */
export interface Target {
  readonly schema: string
  readonly name: string
  readonly channel: string
}

/** What `watch` accepts: a definition of a table, alone or with options of its triggers. */
export type Watchable = Watch | Channel.AnyTable

export const asWatch = (watch: Watchable): Watch => ("_tag" in watch ? { channel: watch } : watch)

/** The description of the table in a definition of `Channel.table`. */
const tableOf = ({ channel }: Pick<Watch, "channel">): Channel.Table | undefined =>
  typeof channel === "string" ? undefined : channel.table

export const targetOf = (watch: Pick<Watch, "channel" | "table">): Target => {
  const defined = tableOf(watch)
  const channel =
    typeof watch.channel === "string"
      ? watch.channel
      : (defined?.channel ?? (watch.channel as Channel.Any).name)
  const table =
    watch.table ??
    defined ??
    (channel.startsWith(known) ? channel.slice(known.length) : `(${channel})`)
  return typeof table === "string"
    ? { schema: "public", name: table, channel }
    : { schema: table.schema, name: table.name, channel }
}

/** The target of what `unwatch` accepts. */
export const unwatchedTarget = (
  table: Pick<Watch, "channel" | "table"> | Channel.AnyTable
): Target => targetOf("_tag" in table ? { channel: table } : table)

const list = (texts: ReadonlyArray<string>): string =>
  `array[${texts.map(literal).join(", ")}]::text[]`

const regclass = ({ name, schema }: Target): string =>
  `format('%I.%I', ${literal(schema)}, ${literal(name)})::regclass`

export const watchStatement = (watch: Watch, schema: string): string => {
  const target = targetOf(watch)
  const delivery =
    watch.delivery ?? (typeof watch.channel === "string" ? "live" : watch.channel.delivery)
  const args = [
    `rel => ${regclass(target)}`,
    `channel => ${literal(target.channel)}`,
    `delivery => ${literal(delivery)}`,
    `old => ${watch.old ?? false}`,
    `level => ${literal(watch.level ?? "row")}`,
    `always => ${watch.always ?? false}`,
    `shared => ${watch.shared ?? false}`
  ]
  const defined = tableOf(watch)
  const columns = watch.columns ?? defined?.columns
  if (columns !== undefined) args.push(`columns => ${list(columns)}`)
  if (defined !== undefined) {
    args.push(`key => ${list(defined.key)}`)
    for (const option of ["by", "filter", "boundary"] as const) {
      if (defined[option].length > 0) args.push(`${option} => ${list(defined[option])}`)
    }
  }
  if (watch.maxBytes !== undefined) args.push(`max_bytes => ${Math.trunc(watch.maxBytes)}`)
  for (const operation of ["insert", "update", "delete"] as const) {
    const condition = watch.when?.[operation]
    if (condition !== undefined) args.push(`when_${operation} => ${literal(condition)}`)
  }
  return `select ${schema}.watch(\n  ${args.join(",\n  ")}\n)`
}

export const unwatchStatement = (target: Target, schema: string): string =>
  `select ${schema}.unwatch(${regclass(target)}, ${literal(target.channel)})`

const ofGone = ({ channel, name, schema }: Target, objects: string): string => {
  const named = `format('%I.%I', ${literal(schema)}, ${literal(name)})`
  return `from ${objects}.watched w where w.channel = ${literal(channel)} and not exists (select from pg_class c where c.oid = w.rel)
  and (to_regclass(${named}) is null or w.name = ${named})`
}

/** What stops watching a table, also one that was dropped, and whose name another table may have. */
export const unwatching =
  (target: Target) =>
  (
    client: Pick<SqlClient, "unsafe">,
    schema: string
  ): Effect.Effect<ReadonlyArray<string>, SqlError> =>
    Effect.map(
      client.unsafe<{ readonly taken: boolean }>(
        `select to_regclass(format('%I.%I', ${literal(target.schema)}, ${literal(target.name)})) is not null as taken ${ofGone(target, schema)}`
      ),
      (gone) => [
        ...(gone.length === 0
          ? []
          : [
              `with gone as (delete ${ofGone(target, schema)} returning w.id) select ${schema}.forget(gone.id) from gone`
            ]),
        ...(gone.every(({ taken }) => taken) ? [unwatchStatement(target, schema)] : [])
      ]
    )
