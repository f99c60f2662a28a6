/**
 * How a table of the gateway is watched, beside the other programs that watch it.
 *
 * In: what the rules of the gateway need, and the watch that the database has. Out: the watch to have, with a
 * line for each change, or the refusal where both cannot be. It adds the columns that rules compare. It never
 * lets more columns travel, and takes no option away.
 */
import type { AnyTable } from "../../ChannelTable.ts"
import { type Installed, keptBy } from "../../server/internal/link/tableSchema.ts"
import type { WatchedTable } from "../../server/internal/link/watched.ts"
import { maxPayloadBytes } from "../../server/internal/sql/schema.ts"
import { usual } from "../../server/internal/sql/schemaName.ts"
import { type Watch, watchStatement } from "../../server/internal/sql/watchStatement.ts"
import { shellWord } from "../shared/shell.ts"
import { nameOfTable } from "../shared/tableName.ts"
import { InvalidGateway } from "./config.ts"

type Names = ReadonlyArray<string>

/** What the gateway asks of a watch. */
export interface WatchNeeds {
  /** Where the user named the table. */
  readonly place: string
  /** Its schema and name. */
  readonly table: string
  readonly channel: string
  /** The primary key of the table. */
  readonly key: Names
  /** The routes and the columns that travel; without a word of the user they stay as they are. */
  readonly by: Names | undefined
  readonly columns: Names | undefined
  readonly filter: Names
  readonly boundary: Names
}

/** The lists of a definition. */
export interface Lists {
  readonly by: Names
  readonly columns: Names | undefined
  readonly filter: Names
  readonly boundary: Names
}

/** A watch of the database, and whether another table has its channel. */
export interface WatchFound extends Pick<WatchedTable, "definition" | "delivery"> {
  readonly shared: boolean
}

/** What is to be done. */
export interface Plan {
  /** The lists of the definition that the gateway serves. */
  readonly serves: Lists
  /** The lists and options of the watch to have; `undefined` where it is as it has to be. */
  readonly watch: { readonly lists: Lists; readonly options: Omit<Watch, "channel"> } | undefined
  /** A line for each change: what, from and to. */
  readonly changes: ReadonlyArray<string>
}

const listed = (names: Names): string => (names.length === 0 ? "none" : names.join(", "))

const same = (one: Names, other: Names): boolean =>
  String(one.toSorted()) === String(other.toSorted())

const optionsOf = ({ definition, shared }: WatchFound): Omit<Watch, "channel"> => {
  const { always, insert, level, old, update } = definition
  return {
    old: old ?? false,
    when: {
      insert: insert ?? undefined,
      update: update ?? undefined,
      delete: definition.delete ?? undefined
    },
    maxBytes: definition.max_bytes,
    level: level ?? "row",
    delivery: "durable",
    always: always ?? false,
    shared
  }
}

const listsOf = ({ boundary, by, columns, filter }: Installed): Lists => ({
  by: by ?? [],
  columns: columns ?? undefined,
  filter: filter ?? [],
  boundary: boundary ?? []
})

/** The line of the command line that watches so; `undefined` where it has no flag for an option. */
const commandOf = (
  { channel, table }: WatchNeeds,
  { boundary, by, columns, filter }: Lists,
  { always, level, maxBytes, old, shared, when }: Omit<Watch, "channel">,
  schema: string
): string | undefined => {
  if (by.length + filter.length + boundary.length > 0) return undefined
  if (columns?.some((column) => column.includes(",")) === true) return undefined
  const flags = [
    `--watch-durable ${shellWord(`${nameOfTable(...splitOf(table))}=${channel}`)}`,
    columns === undefined ? "" : `--columns ${shellWord(columns.join(","))}`,
    old === true ? "--old" : "",
    level === "statement" ? "--level statement" : "",
    ...(["insert", "update", "delete"] as const).map((operation) =>
      when?.[operation] === undefined ? "" : `--when-${operation} ${shellWord(when[operation])}`
    ),
    maxBytes === undefined || maxBytes === maxPayloadBytes ? "" : `--max-bytes ${maxBytes}`,
    always === true ? "--always" : "",
    shared === true ? "--shared" : "",
    schema === usual ? "" : `--schema ${schema}`,
    "--apply"
  ]
  return `npx effect-realtime sql ${flags.filter((flag) => flag !== "").join(" ")}`
}

/** Names what its owner runs for a watch: a command, or else its statement. */
export const ownersLine = (
  needs: WatchNeeds,
  lists: Lists,
  options: Omit<Watch, "channel">,
  schema: string
): string => {
  const command = commandOf(needs, lists, options, schema)
  if (command !== undefined) return command
  const [tableSchema, name] = splitOf(needs.table)
  const table = { ...lists, key: needs.key, schema: tableSchema, name, channel: needs.channel }
  const channel = { table, delivery: "durable" } as unknown as AnyTable
  return `${watchStatement({ ...options, channel }, schema).replaceAll(/\s*\n\s*/g, " ")};`
}

/** The schema and the name of a table that are joined by a dot. */
const splitOf = (table: string): readonly [string, string] => {
  const dot = table.indexOf(".")
  return [table.slice(0, dot), table.slice(dot + 1)]
}

/** Compares what is needed with what is there. Throws `InvalidGateway` where both cannot be. */
export const planned = (needs: WatchNeeds, found: WatchFound | undefined, schema: string): Plan => {
  const { boundary, channel, filter, key, place, table } = needs
  const about = `Table ${table} is watched for channel "${channel}"`
  if (found === undefined) {
    const lists = { by: needs.by ?? [], columns: needs.columns, filter, boundary }
    const travel =
      needs.columns === undefined ? "all columns travel" : `${listed(needs.columns)} travel`
    return {
      serves: lists,
      watch: { lists, options: { delivery: "durable" } },
      changes: [`${about} now: ${travel}`]
    }
  }
  const there = listsOf(found.definition)
  const options = optionsOf(found)
  const refuse = (why: string, lists: Partial<Lists>): InvalidGateway => {
    const line = ownersLine(needs, { ...there, ...lists }, options, schema)
    return new InvalidGateway({
      where: place,
      reason: `${about} already, ${why}. To change that for every program, let the owner of the table run: ${line}`
    })
  }
  if (found.delivery !== "durable") {
    throw refuse(`for live events, and the gateway needs durable ones`, {})
  }
  if (needs.by !== undefined && String(needs.by) !== String(there.by)) {
    throw refuse(`with routes by ${listed(there.by)}, and not by ${listed(needs.by)}`, {
      by: needs.by
    })
  }
  const { columns } = there
  if (needs.columns !== undefined && !same(columns ?? ["*"], needs.columns)) {
    const travelling = columns === undefined ? "all columns" : `the columns ${listed(columns)}`
    throw refuse(`with ${travelling}, and not ${listed(needs.columns)}`, {
      columns: needs.columns
    })
  }
  const hidden = key.filter((column) => columns?.includes(column) === false)
  if (hidden.length > 0) {
    throw refuse(
      `and its columns keep back ${listed(hidden)} of the primary key, without which a client cannot tell rows apart`,
      { columns: [...hidden, ...columns!] }
    )
  }
  const serves = { by: there.by, columns, filter, boundary }
  const kept = keptBy(found.definition)
  const added = { filter: filter.filter(lacking(kept)), boundary: boundary.filter(lacking(kept)) }
  if (added.filter.length + added.boundary.length === 0) {
    return { serves, watch: undefined, changes: [] }
  }
  const lists = {
    ...there,
    filter: [...there.filter, ...added.filter],
    boundary: [...there.boundary, ...added.boundary]
  }
  const [from, to] = [[...kept], [...kept, ...added.filter, ...added.boundary]]
  return {
    serves,
    watch: { lists, options },
    changes: [
      `${about}: the columns that rules and filters compare were ${listed(from)} and are ${listed(to)} now, because ${place} needs them`
    ]
  }
}

const lacking =
  (kept: ReadonlySet<string>) =>
  (column: string): boolean =>
    !kept.has(column)
