/**
 * Installs the objects of durable channels into a database, upgrades them, and removes them.
 *
 * All objects are in the schema `realtime`. `install` may run at every start of every node: one node runs
 * it at a time, and it does nothing when nothing changed. Applications with their own migrations print
 * the same SQL with `sql` (`npx effect-realtime sql`). `OutboxReader` reads what is published.
 *
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import { SqlClient } from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import type * as Channel from "../Channel.ts"
import * as Sql from "./internal/sql/index.ts"
import { foreign, recognise } from "./internal/sql/ownership.ts"
import { schemaVersion } from "./internal/sql/schema.ts"
import { objects } from "./internal/sql/objects.ts"
import { patience, script } from "./internal/sql/script.ts"
import { inSchema, SchemaName, schemaNameFault, usual } from "./internal/sql/schemaName.ts"
import {
  asWatch,
  type Target,
  targetOf,
  unwatchedTarget,
  unwatching,
  unwatchStatement,
  type Watch,
  type Watchable,
  watchStatement
} from "./internal/sql/watchStatement.ts"
import { troubles, troubleText, unrouted, unroutedText } from "./internal/link/watched.ts"
import { isForbidden, isMissing, ofWatch, sqlMessage, sqlState } from "./internal/link/sqlState.ts"
import { checked, count, type InvalidOption, millis } from "./internal/options.ts"

export {
  /**
   * The largest payload of a durable message, in bytes of UTF-8 (8 MiB).
   *
   * @category constants
   * @since 0.1.0
   */
  maxPayloadBytes
} from "./internal/sql/schema.ts"
export {
  /**
   * @category services
   * @since 0.1.0
   */
  SchemaName
} from "./internal/sql/schemaName.ts"
export {
  /**
   * @category models
   * @since 0.1.0
   */
  type Watch,
  /**
   * @category models
   * @since 0.1.0
   */
  type Watchable
} from "./internal/sql/watchStatement.ts"

const placeOf = (schema = usual): string => (schema === usual ? "" : ` in the schema "${schema}"`)

const cureOf = (schema = usual): string =>
  schema === usual
    ? "Run PgInstaller.install (or its layer) as the owner, or apply what `npx effect-realtime sql` prints."
    : `Run PgInstaller.install({ schema: "${schema}" }) (or its layer) as the owner, or apply what \`npx effect-realtime sql --schema ${schema}\` prints; or correct the option schema, if they are in another one.`

/**
 * The database lacks the schema `realtime` (or the one that was named), or some of its objects.
 *
 * @category errors
 * @since 0.1.0
 */
export class NotInstalled extends Schema.TaggedError<NotInstalled>()("NotInstalled", {
  cause: Schema.optionalKey(Schema.Defect()),
  /** The schema without the objects, default `realtime`. */
  schema: Schema.optionalKey(Schema.String)
}) {
  override get message(): string {
    return `The database does not have the objects of effect-realtime${placeOf(this.schema)}. ${cureOf(this.schema)}`
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
  needed: Schema.Int,
  /** The schema of the objects, default `realtime`. */
  schema: Schema.optionalKey(Schema.String)
}) {
  override get message(): string {
    return `The database has version ${this.installed} of the objects of effect-realtime${placeOf(this.schema)}, this library needs ${this.needed}. ${cureOf(this.schema)} Messages and cursors are kept.`
  }
}

/**
 * A table that cannot be watched as requested.
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
 * Options of `install`, `sql` and `layer`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /**
   * The schema of the objects, default that of `SchemaName`, which is `realtime`: 1-31 of `a-z 0-9 _`.
   * The setting of a session (`realtime.wake`) and the wake-up notifications are named after it, so that
   * several installs may share one database.
   */
  readonly schema?: string | undefined
  /**
   * What wakes the readers, default: as it is, and `hybrid` in a new install.
   *
   * - `hybrid`: a NOTIFY at each commit. When more than 5 come at once, or more than 200 a second, one in
   *   20 ms.
   * - `notify`: a NOTIFY in every transaction that publishes. The fastest on an idle database, but
   *   PostgreSQL then commits those transactions one after the other.
   * - `poll`: none; readers look every 5-250 ms. For transaction poolers and two-phase commit.
   *
   * A change waits until no transaction that published is open.
   */
  readonly wake?: "hybrid" | "notify" | "poll" | undefined
  /**
   * How long messages are kept, default: as it is, and 24 hours in a new install. Older positions are
   * answered `reset`.
   */
  readonly retention?: Duration.Input | undefined
  /** About how many messages are kept at most, default: as it is, and no bound in a new install (`null`). */
  readonly maxMessages?: number | null | undefined
  /**
   * Names of roles to create if they are missing, without login: grant them to your own roles. Each gets
   * exactly the rights that it needs. Default: none; only the owner may use the schema.
   */
  readonly roles?:
    | {
        /** For the servers: read the outbox, publish, keep consumers' cursors, remove old messages. */
        readonly node?: string | undefined
        /** For applications: publish, except to channels that a table writes. */
        readonly app?: string | undefined
      }
    | undefined
  /** Tables to watch: definitions of `Channel.table`, or tables with options of their triggers. */
  readonly watch?: ReadonlyArray<Watchable> | undefined
  /**
   * How long to wait for a lock, default 5 s, because other transactions wait behind the install. At the
   * limit the install fails with an `SqlError` and changes nothing.
   */
  readonly lockTimeout?: Duration.Input | undefined
}

/**
 * The database has a schema of this name that another program created.
 *
 * @category errors
 * @since 0.1.0
 */
export class ForeignSchema extends Schema.TaggedError<ForeignSchema>()("ForeignSchema", {
  schema: Schema.String
}) {
  override get message(): string {
    return `The schema "${this.schema}" of this database is not one of effect-realtime. Nothing was changed. Give another name with the option schema.`
  }
}

/**
 * A name that the schema of the objects cannot have.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidSchemaName extends Schema.TaggedError<InvalidSchemaName>()(
  "InvalidSchemaName",
  { schema: Schema.String, fault: Schema.String }
) {
  override get message(): string {
    return this.fault
  }
}

/**
 * Why `install` failed.
 *
 * @category errors
 * @since 0.1.0
 */
export type InstallError =
  | SqlError
  | ForeignSchema
  | InvalidOption
  | InvalidSchemaName
  | WatchRefused

const settingsOf = (options: Options | undefined): Sql.Settings => ({
  wake: options?.wake,
  retention: options?.retention === undefined ? undefined : millis("retention", options.retention),
  maxMessages:
    options?.maxMessages === undefined || options.maxMessages === null
      ? options?.maxMessages
      : count("maxMessages", options.maxMessages, { unlimited: false }),
  nodeRole: options?.roles?.node,
  appRole: options?.roles?.app
})

/** The database rejects all other faults of a watch; this one would not be valid SQL. */
const checkWatch = (watch: Watchable): void => {
  const { maxBytes } = asWatch(watch)
  if (maxBytes !== undefined) count("maxBytes", maxBytes, { least: 0, unlimited: false })
}

const schemaOf = (schema: string | undefined): string => {
  const name = schema ?? usual
  const fault = schemaNameFault(name)
  if (fault !== undefined) throw new InvalidSchemaName({ schema: name, fault })
  return name
}

/**
 * Everything that `install` does in a new database, as SQL that may run again. Throws `InvalidSchemaName`
 * and `InvalidOption`.
 *
 * @category SQL
 * @since 0.1.0
 */
export const sql = (options?: Options): string => {
  const schema = schemaOf(options?.schema)
  options?.watch?.forEach(checkWatch)
  return [
    `-- The objects of effect-realtime, version ${schemaVersion}. May run again, also to upgrade.`,
    ...script([
      patience(options),
      ...Sql.install(settingsOf(options), false).map((text) => inSchema(schema, text)),
      ...(options?.watch ?? []).map((one) => watchStatement(asWatch(one), schema))
    ])
  ].join("\n\n")
}

/**
 * What `uninstall` does, as SQL. Throws `InvalidSchemaName`.
 *
 * @category SQL
 * @since 0.1.0
 */
export const sqlUninstall = (options?: Pick<Options, "schema">): string => {
  const schema = schemaOf(options?.schema)
  return script([patience(undefined), ...Sql.uninstall.map((text) => inSchema(schema, text))]).join(
    "\n\n"
  )
}

/**
 * What `unwatch` does for each of the tables, as SQL in one transaction. Throws `InvalidSchemaName` and
 * `InvalidOption`.
 *
 * @category SQL
 * @since 0.1.0
 */
export const sqlUnwatch = (
  tables: ReadonlyArray<Pick<Watch, "channel" | "table"> | Channel.AnyTable>,
  options?: Pick<Options, "lockTimeout" | "schema">
): string => {
  const schema = schemaOf(options?.schema)
  return script([
    patience(options),
    ...tables.map((table) => unwatchStatement(unwatchedTarget(table), schema))
  ]).join("\n\n")
}

const deadlockDetected = "40P01"

/**
 * Why `uninstall` or `unwatch` failed.
 *
 * @category errors
 * @since 0.1.0
 */
export type TransactionError = SqlError | ForeignSchema | InvalidOption | InvalidSchemaName

/** Runs the statements in one transaction, for the current schema name. */
const inTransaction = (
  statements: (client: SqlClient, schema: string) => Effect.Effect<ReadonlyArray<string>, SqlError>,
  options: Pick<Options, "lockTimeout" | "schema"> | undefined
): Effect.Effect<void, TransactionError, SqlClient> =>
  Effect.gen(function* () {
    const patient = yield* checked(() => patience(options))
    const client = (yield* SqlClient).withoutTransforms()
    const schema = options?.schema ?? (yield* SchemaName)
    const fault = schemaNameFault(schema)
    if (fault !== undefined) return yield* new InvalidSchemaName({ schema, fault })
    yield* client
      .withTransaction(
        Effect.gen(function* () {
          yield* client.unsafe(patient)
          for (const text of yield* statements(client, schema)) yield* client.unsafe(text)
        })
      )
      .pipe(
        // On a deadlock with a reader or a writer the transaction runs again.
        Effect.retry({ times: 5, while: (error) => sqlState(error) === deadlockDetected }),
        Effect.mapError((error) =>
          sqlState(error) === foreign ? new ForeignSchema({ schema }) : error
        )
      )
  })

/**
 * Installs or upgrades the objects in one transaction. Keeps messages, cursors and the settings that are
 * not given. Needs the right to create a schema, and for `watch` ownership of the tables.
 *
 * @category installing
 * @since 0.1.0
 */
export const install = (options?: Options): Effect.Effect<void, InstallError, SqlClient> =>
  checked(() => {
    for (const one of options?.watch ?? []) checkWatch(one)
    return settingsOf(options)
  }).pipe(
    Effect.flatMap((settings) => installed(settings, options)),
    Effect.andThen(
      Effect.forEach(options?.watch ?? [], (one) => watch(one, options), { discard: true })
    )
  )

const installed = (settings: Sql.Settings, options: Options | undefined) =>
  inTransaction(
    (client, schema) =>
      Effect.gen(function* () {
        const run = <Row extends object>(text: string) => client.unsafe<Row>(inSchema(schema, text))
        yield* run(Sql.alone)
        yield* run(recognise)
        const found = yield* run<{ readonly here: boolean }>(
          `select to_regclass('realtime.settings') is not null as here`
        )
        const rows = found[0]?.here
          ? yield* run<{ readonly digest: string; readonly version: number }>(
              `select digest, version from realtime.settings`
            )
          : []
        const installed = rows[0]
        // A newer version stays, because nodes of two versions run side by side during a deploy.
        const isNewer = Number(installed?.version ?? 0) > schemaVersion
        const isOurs = installed?.digest === Sql.digest
        const isWhole = isOurs && (yield* run(Sql.missingFunctions)).length === 0
        return Sql.install(settings, isNewer || isWhole).map((text) => inSchema(schema, text))
      }),
    options
  )

/**
 * Removes the installed objects, with every message and the triggers of all watched tables, and the
 * schema when nothing else is in it. Fails and changes nothing when other objects depend on its tables.
 * The roles stay, because other databases may use them.
 *
 * @category installing
 * @since 0.1.0
 */
export const uninstall: Effect.Effect<void, TransactionError, SqlClient> = inTransaction(
  (_, schema) => Effect.succeed(Sql.uninstall.map((text) => inSchema(schema, text))),
  undefined
)

/**
 * Fails when the objects are missing or older than this library needs. Logs a warning for each watched
 * table whose changes no longer arrive: dropped, replaced by another table of its name, without its
 * primary key or its triggers. Also logs one for each table that has the triggers of another table after
 * a restored dump.
 *
 * @category installing
 * @since 0.1.0
 */
export const check: Effect.Effect<void, NotInstalled | OutdatedInstall | SqlError, SqlClient> =
  Effect.gen(function* () {
    const client = (yield* SqlClient).withoutTransforms()
    const schema = yield* SchemaName
    const rows = yield* client
      .unsafe<{ readonly version: number }>(
        inSchema(schema, `select version from realtime.settings`)
      )
      .pipe(Effect.catchIf(isMissing, (cause) => Effect.fail(new NotInstalled({ cause, schema }))))
    const installed = rows[0]?.version ?? 0
    if (installed < schemaVersion) {
      return yield* new OutdatedInstall({ installed, needed: schemaVersion, schema })
    }
    const inspected = yield* objects(client)
    const texts = [
      Effect.map(troubles(inspected), (found) => found.map(troubleText)),
      Effect.map(unrouted(inspected), (found) => found.map(unroutedText))
    ]
    for (const read of texts) {
      // The role may not query it.
      const found = yield* Effect.catchIf(read, isForbidden, () => Effect.succeed([]))
      for (const text of found) yield* Effect.logWarning(text)
    }
  })

const refused =
  ({ name, schema: of }: Target, where: Pick<Options, "schema"> | undefined) =>
  (error: TransactionError) =>
    Effect.flatMap(SchemaName, (given): Effect.Effect<never, InstallError> =>
      Effect.fail(
        ofWatch(error, where?.schema ?? given)
          ? new WatchRefused({ table: `${of}.${name}`, reason: sqlMessage(error) })
          : error
      )
    )

/**
 * Watches a table, or changes how it is watched. Does nothing when nothing changed.
 *
 * @category watching
 * @since 0.1.0
 */
export const watch = (
  options: Watchable,
  where?: Pick<Options, "lockTimeout" | "schema">
): Effect.Effect<void, InstallError, SqlClient> =>
  checked(() => checkWatch(options)).pipe(
    Effect.andThen(
      inTransaction(
        (_, schema) => Effect.succeed([watchStatement(asWatch(options), schema)]),
        where
      )
    ),
    Effect.catch(refused(targetOf(asWatch(options)), where))
  )

/**
 * Stops watching a table, also one that was dropped. What it published stays until its retention is over.
 *
 * @category watching
 * @since 0.1.0
 */
export const unwatch = (
  options: Pick<Watch, "channel" | "table"> | Channel.AnyTable,
  where?: Pick<Options, "lockTimeout" | "schema">
): Effect.Effect<void, InstallError, SqlClient> => {
  const target = unwatchedTarget(options)
  return inTransaction(unwatching(target), where).pipe(Effect.catch(refused(target, where)))
}

/**
 * Runs `install` when the layer is built.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options?: Options): Layer.Layer<never, InstallError, SqlClient> =>
  Layer.effectDiscard(install(options))

/**
 * `layer`, with options from a `Config`.
 *
 * **Example** (A retention that the operator sets)
 *
 * ```ts
 * PgInstaller.layerConfig({ retention: Config.Duration("REALTIME_RETENTION") })
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig = (
  config: Config.Wrap<Options>
): Layer.Layer<never, InstallError | Config.ConfigError, SqlClient> =>
  Layer.effectDiscard(Effect.flatMap(Config.unwrap(config), install))

/**
 * Runs `check` when the layer is built: for nodes whose role may not install.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerCheck: Layer.Layer<never, NotInstalled | OutdatedInstall | SqlError, SqlClient> =
  Layer.effectDiscard(check)
