/** The definitions of a gateway, out of what its file says. Payloads are any JSON. */
import * as Schema from "effect/Schema"
import * as Channel from "../../Channel.ts"
import type { AnyTable } from "../../ChannelTable.ts"
import type { Served } from "./access.ts"
import * as Config from "./config.ts"
import type { Lists } from "../shared/watchLine.ts"
import type { WatchNeeds } from "./watches.ts"

/** A table as the database describes it. */
export interface Described {
  readonly key: ReadonlyArray<string>
  readonly columns: ReadonlyArray<string>
}

const Param = Schema.String.check(Schema.isNonEmpty())

const invalid = (where: string, reason: string) => new Config.InvalidGateway({ where, reason })

/** Throws what a definition refuses, with its place. */
const placed = <A>(place: string, make: () => A): A => {
  try {
    return make()
  } catch (error) {
    throw invalid(place, error instanceof Error ? error.message : String(error))
  }
}

/** The prefix and the parameter of a name such as `room_{id}`. */
const familyOf = (name: string) => {
  const found = /^([^{}]+)\{(\w+)\}$/.exec(name)
  return found === null ? undefined : { prefix: found[1]!, param: found[2]! }
}

/** Throws for a claim that the channel has no parameter for. */
const checkParam = (place: string, access: Config.Access | undefined, param?: string): void => {
  if (typeof access !== "object") return
  if (access.column !== undefined) {
    throw invalid(place, `Only a table has columns. Name the parameter of the channel as "param".`)
  }
  if (access.param === param) return
  const cure = `Put it into the channel's name, such as "room_{${access.param}}".`
  throw invalid(place, `The channel has no parameter "${access.param}". ${cure}`)
}

/** The definition of a channel or a family. Throws `InvalidGateway`. */
export const servedChannel = (
  name: string,
  config: Config.Channel,
  place = `channels.${name}`
): Served => {
  const family = familyOf(name)
  const { counts, delivery = "live", latestBy, publish, read } = config
  checkParam(`${place}.read`, read, family?.param)
  checkParam(`${place}.publish`, publish, family?.param)
  const only = (kind: string, key: string) =>
    invalid(`${place}.${key}`, `Only a ${kind} channel has it, and this one is ${delivery}.`)
  if (latestBy !== undefined && delivery !== "volatile") throw only("volatile", "latestBy")
  if (counts !== undefined && delivery !== "presence") throw only("presence", "counts")
  const definition = placed(place, (): Channel.Definition => {
    if (delivery === "presence") {
      return family === undefined
        ? Channel.presence(name, Schema.Unknown, { counts })
        : Channel.presence(family.prefix, Param, Schema.Unknown, { counts })
    }
    // A payload of any JSON has no fields that the compiler knows.
    const options = { delivery, publish: publish !== undefined, latestBy: latestBy as never }
    return family === undefined
      ? Channel.make(name, Schema.Unknown, options)
      : Channel.family(family.prefix, Param, Schema.Unknown, options)
  })
  return { definition, read, publish }
}

const listOf = (columns: string | ReadonlyArray<string> | undefined): ReadonlyArray<string> =>
  columns === undefined ? [] : [columns].flat()

/** What the rules and filters of a table need of its watch. Throws `InvalidGateway`. */
export const needsOf = (
  place: string,
  name: string,
  config: Config.Table,
  described: Described
): WatchNeeds => {
  const { read, schema = "public" } = config
  const [by, filter, columns] = [listOf(config.by), listOf(config.filter), listOf(config.columns)]
  const claim = typeof read === "object" ? read : undefined
  if (claim?.param !== undefined) {
    throw invalid(`${place}.read`, `A table has no parameter. Name the column as "column".`)
  }
  const bound = claim?.column === undefined ? [] : [claim.column]
  for (const column of [...by, ...filter, ...columns, ...bound]) {
    if (described.columns.includes(column)) continue
    throw invalid(place, `The table has no column "${column}".`)
  }
  if (described.key.length === 0) {
    throw invalid(place, "The table has no primary key, so its rows have no names. Give it one.")
  }
  return {
    place,
    schema,
    name,
    channel: Config.channelOf(name, config),
    key: described.key,
    by: config.by === undefined ? undefined : by,
    columns: config.columns === undefined ? undefined : columns,
    filter,
    // The columns of `filter` and `by` bound a client too.
    boundary: bound.filter((column) => !filter.includes(column) && !by.includes(column))
  }
}

/** A definition of a table with these lists. Throws `InvalidGateway`. */
export const definitionOf = (
  place: string,
  name: string,
  { schema, channel }: Config.Table,
  described: Described,
  { boundary, by, columns = [], filter }: Lists
): AnyTable => {
  // Every column is any JSON value. A column that is added later still travels.
  const fields = Object.fromEntries(
    described.columns.map((column) => [column, Schema.optionalKey(Schema.Unknown)])
  )
  const Row = Object.assign(
    Schema.StructWithRest(Schema.Struct(fields), [Schema.Record(Schema.String, Schema.Unknown)]),
    { fields }
  )
  // The compiler knows none of these columns; they are those of the table.
  const options = {
    key: described.key,
    ...(by.length === 0 ? {} : { by }),
    ...(filter.length === 0 ? {} : { filter }),
    ...(columns.length === 0 ? {} : { columns }),
    ...(boundary.length === 0 ? {} : { boundary }),
    schema,
    channel
  } as never
  return placed(place, (): AnyTable => Channel.table(name, Row as never, options))
}
