/**
 * How a table of the gateway is watched, beside the other programs that watch it.
 *
 * In: what the rules of the gateway need, and the watch that the database has. Out: the watch to have, with a
 * line for each change, or the refusal where both cannot be. It adds the columns that rules compare. It never
 * lets more columns travel, and takes no option away.
 */
import type { AnyTable } from "../../ChannelTable.ts"
import { keptBy } from "../../server/internal/link/tableSchema.ts"
import type { WatchedTable } from "../../server/internal/link/watched.ts"
import { watchStatement } from "../../server/internal/sql/watchStatement.ts"
import { nameOfTable } from "../shared/tableName.ts"
import {
  type Lists,
  listsOf,
  optionsOf,
  watchLine,
  type WatchOptions
} from "../shared/watchLine.ts"
import { InvalidGateway } from "./config.ts"

type Names = ReadonlyArray<string>

/** What the gateway asks of a watch. */
export interface WatchNeeds {
  /** Where the user named the table. */
  readonly place: string
  readonly schema: string
  readonly name: string
  readonly channel: string
  /** The primary key of the table. */
  readonly key: Names
  /** The routes and the columns that travel; without a word of the user they stay as they are. */
  readonly by: Names | undefined
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
  readonly watch: { readonly lists: Lists; readonly options: WatchOptions } | undefined
  /** A line for each change: what, from and to. */
  readonly changes: ReadonlyArray<string>
}

const listed = (names: Names): string => (names.length === 0 ? "none" : names.join(", "))

const same = (one: Names, other: Names): boolean =>
  String(one.toSorted()) === String(other.toSorted())

/** The table of a watch as flags name it, and texts. */
export const watchedName = ({ name, schema }: Pick<WatchNeeds, "name" | "schema">): string =>
  nameOfTable(schema, name)

/** Names what its owner runs for a watch: a command, or else its statement. */
export const ownersLine = (
  needs: WatchNeeds,
  lists: Lists,
  options: WatchOptions,
  schema: string
): string => {
  const line = watchLine(watchedName(needs), needs.channel, lists, options, schema)
  if (line !== undefined) return line
  const table = { ...needs, ...lists }
  const channel = { table, delivery: "durable" } as unknown as AnyTable
  return `${watchStatement({ ...options, channel }, schema).replaceAll(/\s*\n\s*/g, " ")};`
}

/** Compares what is needed with what is there. Throws `InvalidGateway` where both cannot be. */
export const planned = (needs: WatchNeeds, found: WatchFound | undefined, schema: string): Plan => {
  const { boundary, channel, filter, key, place } = needs
  const about = `Table ${watchedName(needs)} is watched for channel "${channel}"`
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
  const options: WatchOptions = {
    ...optionsOf(found.definition, found.delivery, found.shared),
    delivery: "durable"
  }
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
