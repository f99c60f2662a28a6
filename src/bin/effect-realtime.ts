#!/usr/bin/env node
/**
 * `npx effect-realtime sql` prints what `PgInstaller.install` would run, for applications with their own
 * migrations. `npx effect-realtime nats` prints what the account of a node may do in NATS. It connects to
 * neither. Of the modules with definitions it imports what they export.
 */
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as Path from "node:path"
import { pathToFileURL } from "node:url"
import { parseArgs } from "node:util"
import type * as Channel from "../Channel.ts"
import { permissionsOf, rootFault, usualRoot } from "../nats/internal/subjects.ts"
import { schemaNameFault, usual as usualSchema } from "../server/internal/sql/schemaName.ts"
import * as PgInstaller from "../server/PgInstaller.ts"

const usage = `Usage: effect-realtime sql [options]
       effect-realtime nats [--schema <name>] [--root <text>] [--identity <text>]

nats prints the permissions that the account of a node needs in NATS, for its configuration:

  --root <text>                what all subjects begin with (default: ${usualRoot})
  --identity <text>            of the database: select realtime.identity() (default: every database
                               with a schema of that name)

sql prints the SQL that installs or upgrades the objects. It may run again.

  --schema <name>              the schema they stand in (default: realtime)
  --wake <hybrid|notify|poll>  what wakes the readers (default: as it is; hybrid in a new install)
  --retention <duration>       how long messages are kept, e.g. "36 hours" (default: as it is; 24 hours)
  --max-messages <n>           about how many are kept at most (default: as it is; no bound)
  --node-role <name>           create and grant the role of the servers
  --app-role <name>            create and grant the role of the apps that publish
  --definitions <module>       watch every table that this module exports as Channel.table, e.g.
                               ./channels.js; may be given several times
  --watch <table[=channel]>    watch a table, [schema.]name, for a live channel
  --watch-durable <table[=channel]>
                               and for a durable one; both may be given several times
  --columns <name,name>        of the table before it, only these columns travel (default: all of them)
  --uninstall                  print the SQL that removes everything instead
`

class UsageError extends Error {}

const flags = {
  schema: { type: "string" },
  wake: { type: "string" },
  retention: { type: "string" },
  "max-messages": { type: "string" },
  "node-role": { type: "string" },
  "app-role": { type: "string" },
  definitions: { type: "string", multiple: true },
  watch: { type: "string", multiple: true },
  "watch-durable": { type: "string", multiple: true },
  columns: { type: "string", multiple: true },
  uninstall: { type: "boolean" },
  root: { type: "string" },
  identity: { type: "string" },
  help: { type: "boolean", short: "h" }
} as const

const watchOf = (delivery: "live" | "durable", text: string): PgInstaller.Watch => {
  const [target, channel, ...more] = text.split("=") as [string, ...Array<string>]
  if (more.length > 0) throw new UsageError(`A table is followed by one channel, not "${text}".`)
  const dot = target.indexOf(".")
  const schema = dot < 0 ? "public" : target.slice(0, dot)
  const name = target.slice(dot + 1)
  return { channel: channel ?? `table_updates_${name}`, table: { schema, name }, delivery }
}

interface Flag {
  readonly name: string
  readonly value: string
}

/** The tables in the order in which they were given, each with the columns that follow it. */
const watchesOf = (flags: ReadonlyArray<Flag>): ReadonlyArray<PgInstaller.Watch> => {
  const watches: Array<PgInstaller.Watch> = []
  for (const { name, value } of flags) {
    if (name === "watch") watches.push(watchOf("live", value))
    else if (name === "watch-durable") watches.push(watchOf("durable", value))
    else if (name === "columns") {
      const watch = watches.pop()
      if (watch === undefined || watch.columns !== undefined) {
        throw new UsageError("--columns follows the --watch or --watch-durable it is for, once.")
      }
      watches.push({ ...watch, columns: value.split(",").map((column) => column.trim()) })
    }
  }
  return watches
}

/** The tables that a module exports. */
const definitionsOf = async (module: string): Promise<ReadonlyArray<Channel.AnyTable>> => {
  const exported: object = await import(pathToFileURL(Path.resolve(module)).href)
  const tables = new Set<Channel.AnyTable>()
  for (const one of Object.values(exported) as ReadonlyArray<unknown>) {
    // A family is a function. An exported route stands for its table.
    const table = Object(one).table as Channel.Table | undefined
    if (table?.channel === undefined) continue
    if (![...tables].some((known) => known.table === table)) tables.add(one as Channel.AnyTable)
  }
  if (tables.size === 0) throw new UsageError(`The module ${module} exports no Channel.table.`)
  return [...tables]
}

/** As a block of the configuration of a NATS server. */
const natsPermissions = (flags: {
  readonly schema?: string | undefined
  readonly root?: string | undefined
  readonly identity?: string | undefined
}): string => {
  const { identity, root = usualRoot, schema = usualSchema } = flags
  const fault = rootFault(root)
  if (fault !== undefined) throw new UsageError(`--root is ${fault}, not "${root}".`)
  const schemaFault = schemaNameFault(schema)
  if (schemaFault !== undefined) throw new UsageError(schemaFault)
  const { publish, subscribe } = permissionsOf({ root, schema, identity })
  const list = (subjects: ReadonlyArray<string>) =>
    subjects.map((subject) => JSON.stringify(subject)).join(", ")
  return `permissions: {
  publish: { allow: [${list(publish)}] }
  subscribe: { allow: [${list(subscribe)}] }
}
`
}

const output = async (args: ReadonlyArray<string>): Promise<string> => {
  const { positionals, tokens, values } = parseArgs({
    args: [...args],
    options: flags,
    allowPositionals: true,
    tokens: true
  })
  if (values.help === true || positionals.length === 0) return usage
  if (positionals.length === 1 && positionals[0] === "nats") return natsPermissions(values)
  if (positionals.length > 1 || positionals[0] !== "sql") {
    throw new UsageError(`There is no command "${positionals.join(" ")}".`)
  }
  const { schema } = values
  if (values.uninstall === true) return PgInstaller.sqlUninstall({ schema })
  const { wake } = values
  if (wake !== undefined && wake !== "hybrid" && wake !== "notify" && wake !== "poll") {
    throw new UsageError(`--wake is hybrid, notify or poll, not "${wake}".`)
  }
  const retention =
    values.retention === undefined
      ? undefined
      : Duration.fromInput(values.retention as Duration.Input)
  if (retention !== undefined && Option.isNone(retention)) {
    throw new UsageError(`--retention is a duration such as "36 hours", not "${values.retention}".`)
  }
  const most = values["max-messages"]
  if (most !== undefined && !/^[1-9]\d{0,14}$/.test(most)) {
    throw new UsageError(`--max-messages is a number from 1 on, not "${most}".`)
  }
  const definitions = await Promise.all((values.definitions ?? []).map(definitionsOf))
  return PgInstaller.sql({
    schema,
    wake,
    retention: retention === undefined ? undefined : retention.value,
    maxMessages: most === undefined ? undefined : Number(most),
    roles: { node: values["node-role"], app: values["app-role"] },
    watch: [
      ...definitions.flat(),
      ...watchesOf(
        tokens.flatMap((token) =>
          token.kind === "option" && token.value !== undefined
            ? { name: token.name, value: token.value }
            : []
        )
      )
    ]
  })
}

try {
  process.stdout.write(await output(process.argv.slice(2)))
} catch (error) {
  const { message } = error as Error
  process.stderr.write(`${message}\n\n${usage}`)
  process.exitCode = 1
}
