/** What a gateway serves, out of its file and its flags. A flag is stronger than the file. */
import * as Config from "./config.ts"

type Delivery = NonNullable<Config.Channel["delivery"]>
type OpenAccess = "any" | "signed-in"

/** The channels and rules of flags or of the environment. */
export interface Flags {
  readonly channels: Readonly<Record<Delivery, ReadonlyArray<string>>>
  readonly tables: ReadonlyArray<string>
  /** Which clients may use the channels and tables of flags. */
  readonly read: OpenAccess | undefined
  readonly publish: OpenAccess | undefined
  /** Whether every client may use what has no rule. */
  readonly allowAll: boolean | undefined
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

const largestPort = 65_535

/** Fails for a port that there is not. The rest is checked where it is used. */
const checkPort = ({ port }: Config.Config): void => {
  if (port !== undefined && (port < 0 || port > largestPort)) {
    throw invalid(
      "port",
      `${port} is no port. Give one from 1 to ${largestPort}, or 0 for a free one.`
    )
  }
}

/** Fails where no client could use anything, or a rule needs tokens that are not checked. */
const check = ({ channels, jwt, tables }: Config.Config): void => {
  const all = [
    ...entries(channels).map(([name, one]) => [`channels.${name}`, one.read, one.publish] as const),
    ...entries(tables).map(([name, one]) => [`tables.${name}`, one.read, undefined] as const)
  ]
  if (all.length === 0) {
    throw invalid(
      "serve",
      "There is nothing to serve. Give --live, --durable, --volatile, --presence or --table, or a file with --config."
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
  const { publish, read, rest } = given
  const allowAll = given.allowAll ?? file.allowAll ?? false
  const flagged = entries(given.channels).flatMap(([delivery, names]) =>
    names.map(
      (name) => [name, { delivery: delivery as Delivery, ...rules(read, publish) }] as const
    )
  )
  const tabled = given.tables.map((text) => {
    const [name, table] = tableOf(text)
    return [name, { ...table, ...rules(read, undefined) }] as const
  })
  once("channels", flagged, file.channels)
  once("tables", tabled, file.tables)
  const open = <A extends Config.Channel>(one: A): A =>
    allowAll && one.read === undefined && one.publish === undefined
      ? { ...one, read: "any", publish: "any" }
      : one
  const shown = (one: Config.Table): Config.Table =>
    allowAll && one.read === undefined ? { ...one, read: "any" } : one
  const config: Config.Config = {
    ...file,
    ...rest,
    ...parts("jwt", file, rest),
    ...parts("nats", file, rest),
    ...parts("limits", file, rest),
    channels: Object.fromEntries(
      [...entries(file.channels), ...flagged].map(([name, one]) => [name, open(one)])
    ),
    tables: Object.fromEntries(
      [...entries(file.tables), ...tabled].map(([name, one]) => [name, shown(one)])
    )
  }
  check(config)
  checkPort(config)
  return config
}

const rules = (read: OpenAccess | undefined, publish: OpenAccess | undefined) => ({
  ...(read === undefined ? {} : { read }),
  ...(publish === undefined ? {} : { publish })
})

/** The keys of flags over those of the file. */
const parts = <K extends "jwt" | "limits" | "nats">(
  key: K,
  file: Config.Config,
  rest: Config.Config
) =>
  file[key] === undefined && rest[key] === undefined
    ? {}
    : { [key]: { ...file[key], ...rest[key] } }

/** A second delivery or rule of a name would be lost. */
const once = (
  kind: string,
  given: ReadonlyArray<readonly [string, object]>,
  record: Readonly<Record<string, object>> | undefined
) => {
  const names = new Set<string>()
  for (const [name] of given) {
    if (record !== undefined && Object.hasOwn(record, name)) {
      throw invalid(`${kind}.${name}`, "The file and a flag both have it. Give it once.")
    }
    if (names.has(name)) throw invalid(`${kind}.${name}`, "Two flags have it. Give it once.")
    names.add(name)
  }
}
