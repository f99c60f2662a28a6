/**
 * The flags of `sql` for tables: each option is of the table before it.
 *
 * The parser keeps the order of the values of one flag, and not that of different flags. So the order is
 * that of the names in the arguments.
 */
import * as Effect from "effect/Effect"
import * as Flag from "effect/cli/Flag"
import { channelNameFault } from "../../../Protocol.ts"
import type * as PgInstaller from "../../../server/PgInstaller.ts"
import { type CommandFailed, wrongUsage } from "../../shared/exit.ts"
import { textFlag } from "../../shared/flags.ts"
import { shellWord } from "../../shared/shell.ts"
import { tableNamed } from "../../shared/tableName.ts"

type TableOptions = Partial<Omit<PgInstaller.Watch, "channel" | "delivery" | "table">>

const text = (name: string, metavar: string, description: string) =>
  textFlag(name).pipe(Flag.withMetavar(metavar), Flag.withDescription(description), Flag.atLeast(0))

const yes = (name: string, description: string) =>
  Flag.Boolean(name).pipe(Flag.withoutNegation, Flag.withDescription(description), Flag.atLeast(0))

const table = "<table[=channel]>"

export const tableFlags = {
  watch: text("watch", table, "Watch a table, [schema.]name, for a live channel"),
  "watch-durable": text(
    "watch-durable",
    table,
    "And for a durable one; both may be given several times"
  ),
  columns: text("columns", "<name,name>", "Of the table before it: only these columns travel"),
  old: yes("old", "Of the table before it: an UPDATE carries the row as it was, too"),
  "when-insert": text(
    "when-insert",
    "<sql>",
    "Of the table before it: which inserted rows, e.g. new.published"
  ),
  "when-update": text("when-update", "<sql>", "And which updated ones"),
  "when-delete": text("when-delete", "<sql>", "And which deleted ones"),
  "max-bytes": Flag.Int("max-bytes").pipe(
    Flag.withMetavar("<n>"),
    Flag.withDescription("Of the table before it: a larger row travels as its key"),
    Flag.atLeast(0)
  ),
  level: Flag.Literals("level", ["row", "statement"]).pipe(
    Flag.withMetavar("<row|statement>"),
    Flag.withDescription("Of the table before it: one trigger for each row, or for each statement"),
    Flag.atLeast(0)
  ),
  always: yes("always", "Of the table before it: also what an applier of replication changes"),
  shared: yes("shared", "Of the table before it: another table may have the same channel")
}

type Name = keyof typeof tableFlags

/** Parsed values, by flag. */
type Values = { readonly [K in Name]: ReadonlyArray<unknown> }

/** What an option sets. */
const setting = (name: Name, value: unknown, before: TableOptions): TableOptions => {
  switch (name) {
    case "columns":
      return { columns: (value as string).split(",").map((column) => column.trim()) }
    case "when-insert":
    case "when-update":
    case "when-delete":
      return { when: { ...before.when, [name.slice("when-".length)]: value } }
    case "max-bytes":
      return { maxBytes: value as number }
    default:
      return { [name]: value }
  }
}

/** A table with the channel behind "=". */
export const tableOf = (
  text: string
): Effect.Effect<Pick<PgInstaller.Watch, "channel" | "table">, CommandFailed> => {
  const parts = tableNamed(text)
  if (parts === undefined) {
    return Effect.fail(
      wrongUsage(
        `A table is followed by one channel, not "${text}". A name with "=" or "." stands in double quotes: '"a=b"=my_channel'.`
      )
    )
  }
  const { channel, name, schema = "public" } = parts
  const usual = `table_updates_${name}`
  const fault = channel === undefined ? channelNameFault(usual) : undefined
  return fault === undefined
    ? Effect.succeed({ channel: channel ?? usual, table: { schema, name } })
    : Effect.fail(
        wrongUsage(
          `Table "${name}" gives no channel name, because "${usual}" ${fault}. Name the channel: ${shellWord(`${text}=my_channel`)}.`
        )
      )
}

/** The names of the flags for tables, in the order of the arguments. */
const orderOf = (args: ReadonlyArray<string>): ReadonlyArray<Name> => {
  const end = args.indexOf("--")
  return args.slice(0, end < 0 ? undefined : end).flatMap((arg) => {
    const name = /^--([a-z-]+)(?:=|$)/.exec(arg)?.[1]
    return name !== undefined && Object.hasOwn(tableFlags, name) ? [name as Name] : []
  })
}

/** The tables in the order in which they were given, each with the options that follow it. */
export const watchesOf = (
  values: Values,
  args: ReadonlyArray<string>
): Effect.Effect<ReadonlyArray<PgInstaller.Watch>, CommandFailed> =>
  Effect.gen(function* () {
    const watches: Array<PgInstaller.Watch> = []
    const used = new Map<Name, number>()
    const given = new Set<string>()
    for (const name of orderOf(args)) {
      const at = used.get(name) ?? 0
      used.set(name, at + 1)
      const value = values[name][at]
      if (name === "watch" || name === "watch-durable") {
        given.clear()
        const delivery = name === "watch" ? "live" : "durable"
        watches.push({ ...(yield* tableOf(value as string)), delivery })
        continue
      }
      const watch = watches.pop()
      if (watch === undefined || given.has(name)) {
        return yield* wrongUsage(
          `--${name} follows the --watch or --watch-durable it is for, once.`
        )
      }
      given.add(name)
      watches.push({ ...watch, ...setting(name, value, watch) })
    }
    return watches
  })
