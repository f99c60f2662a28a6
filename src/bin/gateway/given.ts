/** What a gateway serves, out of its file and its flags. A flag is stronger than the file. */
import * as Config from "./config.ts"

type Delivery = NonNullable<Config.Channel["delivery"]>
type Open = "any" | "signed-in"

/** The channels and rules of flags or of the environment. */
export interface Flags {
  readonly channels: Readonly<Record<Delivery, ReadonlyArray<string>>>
  readonly tables: ReadonlyArray<string>
  /** Which clients may use the channels and tables of flags. */
  readonly read: Open | undefined
  readonly publish: Open | undefined
  /** Whether every client may use what has no rule. */
  readonly allowAll: boolean
  /** All other keys of the file. */
  readonly rest: Omit<Config.Config, "channels" | "tables">
}

const invalid = (where: string, reason: string) => new Config.InvalidGateway({ where, reason })

const entries = <A extends object>(record: Readonly<Record<string, A>> | undefined) =>
  Object.entries(record ?? {})

/** A table of a flag: `orders`, or `shop.orders`. */
const tableOf = (text: string): readonly [string, Config.Table] => {
  const dot = text.indexOf(".")
  return dot < 0 ? [text, {}] : [text.slice(dot + 1), { schema: text.slice(0, dot) }]
}

const needsTokens = (access: Config.Access | undefined): boolean =>
  access !== undefined && access !== "any"

/** Fails where no client could use anything, or a rule needs tokens that are not checked. */
const check = ({ channels, jwt, tables }: Config.Config): void => {
  const all = [
    ...entries(channels).map(([name, one]) => [`channels.${name}`, one.read, one.publish] as const),
    ...entries(tables).map(([name, one]) => [`tables.${name}`, one.read, undefined] as const)
  ]
  if (all.length === 0) {
    throw invalid(
      "serve",
      "There is nothing to serve. Give --live, --durable or --table, or a file with --config."
    )
  }
  for (const [place, ...accesses] of all) {
    if (jwt !== undefined || !accesses.some(needsTokens)) continue
    throw invalid(
      place,
      "Its rule needs tokens. Say how they are checked: jwt in the file, or --jwt-keys."
    )
  }
  if (all.some(([, read, publish]) => read !== undefined || publish !== undefined)) return
  throw invalid(
    "serve",
    "No client may use anything. Give --read and --publish, rules in the file, or --allow-all for a gateway that is open on purpose."
  )
}

/** Joins flags and file. Throws `InvalidGateway`. */
export const joined = (file: Config.Config, given: Flags): Config.Config => {
  const { allowAll, publish, read } = given
  const flagged = entries(given.channels).flatMap(([delivery, names]) =>
    names.map(
      (name) => [name, { delivery: delivery as Delivery, ...rules(read, publish) }] as const
    )
  )
  const tabled = given.tables.map((text) => {
    const [name, table] = tableOf(text)
    return [name, { ...table, ...rules(read, undefined) }] as const
  })
  for (const [name] of flagged) once("channels", name, file.channels)
  for (const [name] of tabled) once("tables", name, file.tables)
  const open = <A extends Config.Channel>(one: A): A =>
    allowAll && one.read === undefined && one.publish === undefined
      ? { ...one, read: "any", publish: "any" }
      : one
  const shown = (one: Config.Table): Config.Table =>
    allowAll && one.read === undefined ? { ...one, read: "any" } : one
  const config: Config.Config = {
    ...file,
    ...given.rest,
    channels: Object.fromEntries(
      [...entries(file.channels), ...flagged].map(([name, one]) => [name, open(one)])
    ),
    tables: Object.fromEntries(
      [...entries(file.tables), ...tabled].map(([name, one]) => [name, shown(one)])
    )
  }
  check(config)
  return config
}

const rules = (read: Open | undefined, publish: Open | undefined) => ({
  ...(read === undefined ? {} : { read }),
  ...(publish === undefined ? {} : { publish })
})

const once = (kind: string, name: string, record: Readonly<Record<string, object>> | undefined) => {
  if (record !== undefined && Object.hasOwn(record, name)) {
    throw invalid(`${kind}.${name}`, "The file and a flag both have it. Give it once.")
  }
}
