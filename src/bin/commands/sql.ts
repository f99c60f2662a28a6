/**
 * `sql` prints the SQL that installs, watches, unwatches or uninstalls, for applications with their own
 * migrations; with `--apply` it runs it. `PgInstaller` has the SQL.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stdio from "effect/Stdio"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import { schemaVersion } from "../../server/internal/sql/schema.ts"
import { asWatch, targetOf } from "../../server/internal/sql/watchStatement.ts"
import * as PgInstaller from "../../server/PgInstaller.ts"
import { inDatabase } from "../shared/cures.ts"
import { definitionsFlag, tablesOf } from "../shared/definitions.ts"
import { wrongUsage } from "../shared/exit.ts"
import { databaseFlag, durationFlag, schemaFlag, switchFlag, textFlag } from "../shared/flags.ts"
import { hand, say } from "../shared/output.ts"
import { tableFlags, tableOf, watchesOf } from "./sql/tableFlags.ts"

const maxMessages = Flag.String("max-messages").pipe(
  Flag.withMetavar("<n|none>"),
  Flag.withDescription("About how many are kept at most (default: as it is; no bound)"),
  Flag.filter(
    (text) => /^([1-9]\d{0,14}|none)$/.test(text),
    () => "a whole number from 1 on, or none"
  ),
  Flag.map((text) => (text === "none" ? null : Number(text)))
)

const flags = {
  schema: schemaFlag,
  wake: Flag.Literals("wake", ["hybrid", "notify", "poll"]).pipe(
    Flag.withMetavar("<hybrid|notify|poll>"),
    Flag.withDescription("What wakes the readers (default: as it is; hybrid in a new install)"),
    Flag.optional
  ),
  retention: durationFlag("retention").pipe(
    Flag.withDescription(
      'How long messages are kept, e.g. "36 hours" (default: as it is; 24 hours)'
    ),
    Flag.optional
  ),
  maxMessages: Flag.optional(maxMessages),
  nodeRole: textFlag("node-role").pipe(
    Flag.withMetavar("<name>"),
    Flag.withDescription("Create and grant the role of the servers"),
    Flag.optional
  ),
  appRole: textFlag("app-role").pipe(
    Flag.withMetavar("<name>"),
    Flag.withDescription("Create and grant the role of the apps that publish"),
    Flag.optional
  ),
  definitions: definitionsFlag,
  ...tableFlags,
  unwatch: Flag.String("unwatch").pipe(
    Flag.withMetavar("<table[=channel]>"),
    Flag.withDescription("Stop watching a table instead; may be given several times"),
    Flag.atLeast(0)
  ),
  uninstall: switchFlag("uninstall", "Remove everything instead"),
  lockTimeout: durationFlag("lock-timeout").pipe(
    Flag.withDescription("How long to wait for a lock (default: 5 seconds)"),
    Flag.optional
  ),
  apply: switchFlag("apply", "Run it in the database instead of printing it"),
  database: Flag.optional(databaseFlag)
}

/** What is to be done: the text of it, and its steps in a database, each with what it did. */
interface Work {
  readonly text: () => string
  readonly steps: ReadonlyArray<readonly [done: string, Effect.Effect<void, unknown, Needs>]>
}

type Needs = Effect.Services<ReturnType<typeof PgInstaller.install>>

interface Scope {
  readonly schema: string
  readonly lockTimeout: Duration.Duration | undefined
}

const uninstalling = ({ schema }: Scope): Work => ({
  text: () => PgInstaller.sqlUninstall({ schema }),
  steps: [[`removed the objects of schema ${schema}`, PgInstaller.uninstall]]
})

const unwatching = (
  tables: ReadonlyArray<Pick<PgInstaller.Watch, "channel" | "table">>,
  scope: Scope
): Work => ({
  text: () => PgInstaller.sqlUnwatch(tables, scope),
  steps: tables.map((table) => [
    `no longer watched: ${nameOf(table)}`,
    PgInstaller.unwatch(table, scope)
  ])
})

const installing = (options: PgInstaller.Options, scope: Scope): Work => {
  const all = { ...options, ...scope }
  return {
    text: () => PgInstaller.sql(all),
    steps: [
      [
        `installed version ${schemaVersion} in schema ${scope.schema}`,
        PgInstaller.install({ ...all, watch: [] })
      ],
      ...(options.watch ?? []).map(
        (watch) => [`watched ${nameOf(asWatch(watch))}`, PgInstaller.watch(watch, scope)] as const
      )
    ]
  }
}

const nameOf = (watch: Pick<PgInstaller.Watch, "channel" | "table">): string => {
  const { channel, name, schema } = targetOf(watch)
  return `${schema}.${name} for channel ${channel}`
}

export const sqlCommand = Command.make(
  "sql",
  flags,
  Effect.fnUntraced(function* (given) {
    const { args } = yield* Stdio.Stdio
    const { database, schema } = given
    const scope = { schema, lockTimeout: Option.getOrUndefined(given.lockTimeout) }
    const definitions = yield* tablesOf(given.definitions)
    const watch = [...definitions, ...(yield* watchesOf(given, yield* args))]
    const unwatch = yield* Effect.forEach(given.unwatch, (text) => tableOf(text))
    if (
      (given.uninstall || unwatch.length > 0) &&
      (watch.length > 0 || given.uninstall === unwatch.length > 0)
    ) {
      return yield* wrongUsage("Give --uninstall, --unwatch or tables to watch, one of the three.")
    }
    const work = given.uninstall
      ? uninstalling(scope)
      : unwatch.length > 0
        ? unwatching(unwatch, scope)
        : installing(
            {
              wake: Option.getOrUndefined(given.wake),
              retention: Option.getOrUndefined(given.retention),
              maxMessages: Option.getOrUndefined(given.maxMessages),
              roles: {
                node: Option.getOrUndefined(given.nodeRole),
                app: Option.getOrUndefined(given.appRole)
              },
              watch
            },
            scope
          )
    if (!given.apply) {
      const text = yield* Effect.try({
        try: work.text,
        catch: (error) => wrongUsage((error as Error).message)
      })
      return yield* hand(text.replace(/\n$/, ""))
    }
    if (Option.isNone(database)) {
      return yield* wrongUsage("--apply needs a database: give --database, or set DATABASE_URL.")
    }
    // One transaction, as the printed SQL is.
    yield* Effect.flatMap(PgClient.PgClient, (sql) =>
      sql.withTransaction(Effect.forEach(work.steps, ([, step]) => step, { discard: true }))
    ).pipe(
      Effect.andThen(Effect.forEach(work.steps, ([done]) => say(done), { discard: true })),
      inDatabase({ database: database.value, schema }, "owner")
    )
  })
).pipe(
  Command.withDescription(
    "Print the SQL that installs or upgrades the objects and watches tables, or with --apply run it. It may run again."
  ),
  Command.withShortDescription("Install, upgrade and watch tables, as SQL or in a database"),
  Command.withExamples([
    {
      command: 'effect-realtime sql --watch-durable orders | psql "$DATABASE_URL"',
      description: "By psql"
    },
    {
      command: "effect-realtime sql --watch-durable orders --columns id,status --apply",
      description: "In the database of DATABASE_URL"
    }
  ])
)
