/**
 * Puts the durable side into a database, keeps it up to date, and takes it out again.
 *
 * Everything lives in the schema `realtime`. `install` may run at every start: it does nothing when
 * nothing changed, one node at a time. People with migrations of their own print the same SQL with
 * `sql` (`npx effect-realtime sql`). Reading what is published is `OutboxReader`.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import { SqlClient } from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import type * as Channel from "../Channel.ts"
import * as Sql from "./internal/sql/index.ts"
import { literal } from "./internal/sql/literal.ts"
import { schemaVersion } from "./internal/sql/schema.ts"
import { isMissing, sqlMessage, sqlState } from "./internal/link/sqlState.ts"

export {
  /**
   * The largest payload of a durable message, in bytes of UTF-8 (8 MiB).
   *
   * @category constants
   * @since 0.1.0
   */
  maxPayloadBytes
} from "./internal/sql/schema.ts"

const cure =
  "Run PgInstaller.install (or its layer) as the owner, or apply what `npx effect-realtime sql` prints."

/**
 * The database has no schema `realtime`, or not all of it.
 *
 * @category errors
 * @since 0.1.0
 */
export class NotInstalled extends Schema.TaggedError<NotInstalled>()("NotInstalled", {
  cause: Schema.optionalKey(Schema.Defect())
}) {
  override get message(): string {
    return `The database does not have the objects of effect-realtime. ${cure}`
  }
}

/**
 * The database has the objects of an earlier version.
 *
 * @category errors
 * @since 0.1.0
 */
export class OutdatedInstall extends Schema.TaggedError<OutdatedInstall>()("OutdatedInstall", {
  installed: Schema.Int,
  needed: Schema.Int
}) {
  override get message(): string {
    return `The database has version ${this.installed} of the objects of effect-realtime, this library needs ${this.needed}. ${cure} Messages and cursors are kept.`
  }
}

/**
 * A table cannot be watched as asked.
 *
 * @category errors
 * @since 0.1.0
 */
export class WatchRefused extends Schema.TaggedError<WatchRefused>()("WatchRefused", {
  table: Schema.String,
  reason: Schema.String
}) {
  override get message(): string {
    return `Table ${this.table} is not watched: ${this.reason}.`
  }
}

/**
 * A table to watch: each changed row becomes one event. TRUNCATE becomes one that matches no schema, so
 * that subscribers are told a gap and read again. An UPDATE of the primary key is a DELETE and an
 * INSERT. The triggers run with the rights of whoever installed: watch tables of owners you trust.
 *
 * The table has a primary key that is not deferrable, and no table inherits from it; otherwise
 * `WatchRefused`. Partitions are fine: one that is attached later tells its rows at once, and its own
 * TRUNCATE once the table is watched again. A table that inherits later is not seen.
 *
 * @category models
 * @since 0.1.0
 */
export interface Watch {
  /** The channel, or its name. Its `delivery` decides whether events are durable. */
  readonly channel: Channel.Any | string
  /**
   * The table, in the schema `public` unless told otherwise. Default: what follows `table_updates_` in
   * the name of the channel.
   */
  readonly table?: string | { readonly schema: string; readonly name: string } | undefined
  /**
   * The columns that travel, default all. An UPDATE that changes none of them tells nothing. A renamed
   * column stays in the list under its new name, a dropped one leaves it. A generated column travels when
   * it is stored; a virtual one (from PostgreSQL 18 on) does not, and is refused here, because triggers
   * cannot read it.
   */
  readonly columns?: ReadonlyArray<string> | undefined
  /** Whether an UPDATE also carries the row as it was, default `false`. */
  readonly old?: boolean | undefined
  /**
   * SQL conditions over `new` and `old`, per operation, such as `{ insert: "new.published" }`. Default:
   * every row. This is SQL: never build it from what a user typed.
   */
  readonly when?:
    | {
        readonly insert?: string | undefined
        readonly update?: string | undefined
        readonly delete?: string | undefined
      }
    | undefined
  /**
   * The largest event in bytes of UTF-8, default 8 MiB (durable) or 7,967 (live, where 32 bytes tell equal
   * events apart), which are also the most. A larger row travels as its key with `truncated: true`.
   */
  readonly maxBytes?: number | undefined
  /**
   * `row` (default) is right for every table. `statement` is about four times cheaper where statements
   * insert or delete many rows; it is refused for partitioned and inherited tables, and takes no `when`.
   * It tells a statement at its end: a trigger of yours that changes the same rows again for each row is
   * told first. At row level, changes of a row come in their order.
   */
  readonly level?: "row" | "statement" | undefined
  /**
   * Default: that of the channel, or `live` when only its name is given. A node that starts later and opens
   * a channel of this name with the other delivery logs a warning: nothing of the table reaches it.
   */
  readonly delivery?: "durable" | "live" | undefined
  /**
   * Whether changes by an applier of logical replication, or by a session whose
   * `session_replication_role` is `replica`, are told too, default `false`. An applier of changes fires no
   * triggers at statement level.
   */
  readonly always?: boolean | undefined
  /**
   * Whether another table may have the same channel, default `false`: who reads a channel takes all its
   * rows for those of one table.
   */
  readonly shared?: boolean | undefined
}

/**
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /**
   * What wakes the readers, default: as it is, and `hybrid` in a new install.
   *
   * - `hybrid`: a NOTIFY at commit unless there was one in the last 20 ms.
   * - `notify`: a NOTIFY in every transaction that publishes. Fastest while nothing else happens, but
   *   PostgreSQL then commits those transactions one after the other.
   * - `poll`: none; readers look every 5-250 ms. For transaction poolers and two-phase commit.
   *
   * A change waits until no transaction that published is open.
   */
  readonly wake?: "hybrid" | "notify" | "poll" | undefined
  /** How long messages are kept, default: as it is, and 24 hours in a new install. Older positions are answered `reset`. */
  readonly retention?: Duration.Input | undefined
  /** About how many messages are kept at most, default: as it is, and no bound in a new install (`null`). */
  readonly maxMessages?: number | null | undefined
  /**
   * Names of roles to create if they are missing (without login: grant them to your own), each with
   * exactly the rights it needs. Default: none; only the owner may use the schema.
   */
  readonly roles?:
    | {
        /** For the servers: read the outbox, publish, keep consumers' cursors, prune. */
        readonly node?: string | undefined
        /** For apps: publish, except to channels that a table writes. */
        readonly app?: string | undefined
      }
    | undefined
  /** Tables to watch. */
  readonly watch?: ReadonlyArray<Watch> | undefined
  /**
   * How long to wait for a lock, default 5 s: who waits for a long transaction makes others wait behind
   * it. At the limit the install fails with an `SqlError` and changes nothing.
   */
  readonly lockTimeout?: Duration.Input | undefined
}

/**
 * @category errors
 * @since 0.1.0
 */
export type InstallError = SqlError | WatchRefused

const known = "table_updates_"

interface Target {
  readonly schema: string
  readonly name: string
  readonly channel: string
}

const targetOf = (watch: Pick<Watch, "channel" | "table">): Target => {
  const channel = typeof watch.channel === "string" ? watch.channel : watch.channel.name
  const table =
    watch.table ?? (channel.startsWith(known) ? channel.slice(known.length) : `(${channel})`)
  return typeof table === "string"
    ? { schema: "public", name: table, channel }
    : { schema: table.schema, name: table.name, channel }
}

const regclass = ({ name, schema }: Target): string =>
  `format('%I.%I', ${literal(schema)}, ${literal(name)})::regclass`

const watchStatement = (watch: Watch): string => {
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
  if (watch.columns !== undefined) {
    args.push(`columns => array[${watch.columns.map(literal).join(", ")}]::text[]`)
  }
  if (watch.maxBytes !== undefined) args.push(`max_bytes => ${Math.trunc(watch.maxBytes)}`)
  for (const operation of ["insert", "update", "delete"] as const) {
    const condition = watch.when?.[operation]
    if (condition !== undefined) args.push(`when_${operation} => ${literal(condition)}`)
  }
  return `select realtime.watch(\n  ${args.join(",\n  ")}\n)`
}

const settingsOf = (options: Options | undefined): Sql.Settings => ({
  wake: options?.wake,
  retention:
    options?.retention === undefined
      ? undefined
      : Duration.toMillis(Duration.fromInputUnsafe(options.retention)),
  maxMessages: options?.maxMessages,
  nodeRole: options?.roles?.node,
  appRole: options?.roles?.app
})

const patience = (options: Pick<Options, "lockTimeout"> | undefined): string => {
  const timeout = Duration.fromInputUnsafe(options?.lockTimeout ?? "5 seconds")
  return `set local lock_timeout = '${Math.round(Duration.toMillis(timeout))}ms'`
}

/**
 * Everything that `install` would do to a new database, as SQL that may run again.
 *
 * @category SQL
 * @since 0.1.0
 */
export const sql = (options?: Options): string =>
  [
    `-- The objects of effect-realtime, version ${schemaVersion}. May run again, also to upgrade.`,
    "begin;",
    ...[
      patience(options),
      ...Sql.install(settingsOf(options), false),
      ...(options?.watch ?? []).map(watchStatement)
    ].map((statement) => `${statement};`),
    "commit;",
    ""
  ].join("\n\n")

/**
 * What `uninstall` would do, as SQL.
 *
 * @category SQL
 * @since 0.1.0
 */
export const sqlUninstall: string = [
  "begin;",
  ...[patience(undefined), ...Sql.uninstall].map((statement) => `${statement};`),
  "commit;",
  ""
].join("\n\n")

const deadlockDetected = "40P01"

const inTransaction = (
  statements: (client: SqlClient) => Effect.Effect<ReadonlyArray<string>, SqlError>,
  options: Pick<Options, "lockTimeout"> | undefined
): Effect.Effect<void, SqlError, SqlClient> =>
  Effect.gen(function* () {
    const client = (yield* SqlClient).withoutTransforms()
    yield* client.withTransaction(
      Effect.gen(function* () {
        yield* client.unsafe(patience(options))
        for (const statement of yield* statements(client)) yield* client.unsafe(statement)
      })
    )
  }).pipe(
    // A reader or a writer held what this wanted, and the other way round: both try again.
    Effect.retry({ times: 5, while: (error) => sqlState(error) === deadlockDetected })
  )

/**
 * Installs or upgrades, in one transaction. Keeps messages, cursors and the settings that are not
 * given. Needs the right to create a schema, and for `watch` ownership of the tables.
 *
 * @category installing
 * @since 0.1.0
 */
export const install = (options?: Options): Effect.Effect<void, InstallError, SqlClient> =>
  inTransaction(
    (client) =>
      Effect.gen(function* () {
        yield* client.unsafe(Sql.alone)
        const found = yield* client.unsafe<{ readonly here: boolean }>(
          `select to_regclass('realtime.settings') is not null as here`
        )
        const rows = found[0]?.here
          ? yield* client.unsafe<{ readonly digest: string; readonly version: number }>(
              `select digest, version from realtime.settings`
            )
          : []
        const installed = rows[0]
        // A newer one stays: nodes of two versions live side by side while a deploy rolls.
        const isCurrent =
          installed?.digest === Sql.digest || Number(installed?.version ?? 0) > schemaVersion
        return Sql.install(settingsOf(options), isCurrent)
      }),
    options
  ).pipe(
    Effect.andThen(
      Effect.forEach(options?.watch ?? [], (one) => watch(one, options), { discard: true })
    )
  )

/**
 * Removes the schema with every message, and the triggers of all watched tables. Roles stay: other
 * databases may use them.
 *
 * @category installing
 * @since 0.1.0
 */
export const uninstall: Effect.Effect<void, SqlError, SqlClient> = inTransaction(
  () => Effect.succeed(Sql.uninstall),
  undefined
)

/**
 * Fails when the objects are missing or older than this library needs.
 *
 * @category installing
 * @since 0.1.0
 */
export const check: Effect.Effect<void, NotInstalled | OutdatedInstall | SqlError, SqlClient> =
  Effect.gen(function* () {
    const client = (yield* SqlClient).withoutTransforms()
    const rows = yield* client
      .unsafe<{ readonly version: number }>(`select version from realtime.settings`)
      .pipe(Effect.catchIf(isMissing, (cause) => Effect.fail(new NotInstalled({ cause }))))
    const installed = rows[0]?.version ?? 0
    if (installed < schemaVersion) {
      return yield* new OutdatedInstall({ installed, needed: schemaVersion })
    }
  })

const refused =
  (target: Target) =>
  (error: SqlError): InstallError => {
    const state = sqlState(error)
    // Our own refusals, and a table or a column of a condition that does not exist.
    return state?.startsWith("RT") || state === "42P01" || state === "42703"
      ? new WatchRefused({ table: `${target.schema}.${target.name}`, reason: sqlMessage(error) })
      : error
  }

/**
 * Watches a table, or changes how it is watched. Does nothing when nothing changed.
 *
 * @category watching
 * @since 0.1.0
 */
export const watch = (
  options: Watch,
  lock?: Pick<Options, "lockTimeout">
): Effect.Effect<void, InstallError, SqlClient> =>
  inTransaction(() => Effect.succeed([watchStatement(options)]), lock).pipe(
    Effect.mapError(refused(targetOf(options)))
  )

/**
 * Watches a table no more. What it published stays until retention.
 *
 * @category watching
 * @since 0.1.0
 */
export const unwatch = (
  options: Pick<Watch, "channel" | "table">
): Effect.Effect<void, InstallError, SqlClient> => {
  const target = targetOf(options)
  return inTransaction(
    () =>
      Effect.succeed([`select realtime.unwatch(${regclass(target)}, ${literal(target.channel)})`]),
    undefined
  ).pipe(Effect.mapError(refused(target)))
}

/**
 * `install` when the layer is built.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options?: Options): Layer.Layer<never, InstallError, SqlClient> =>
  Layer.effectDiscard(install(options))

/**
 * `check` when the layer is built: for nodes whose role may not install.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerCheck: Layer.Layer<never, NotInstalled | OutdatedInstall | SqlError, SqlClient> =
  Layer.effectDiscard(check)
