/** What a gateway serves, out of its file and its flags. A flag is stronger than the file. */
import { tableNamed } from "../shared/tableName.ts"
import * as Config from "./config.ts"

type Delivery = NonNullable<Config.Channel["delivery"]>
type OpenAccess = "any" | "signed-in"

/** A name of a flag or a variable, and which one it is. */
export interface NameGiven {
  readonly name: string
  readonly place: string
}

/** The channels and rules of flags or of the environment. */
export interface Flags {
  readonly channels: ReadonlyArray<NameGiven & { readonly delivery: Delivery }>
  readonly tables: ReadonlyArray<NameGiven>
  /** Which clients may use the channels and tables of flags. */
  readonly read: OpenAccess | undefined
  readonly publish: OpenAccess | undefined
  /** Whether every client may use what has no rule. */
  readonly allowAll: boolean | undefined
  /** All other keys of the file, and the flag or variable of each. */
  readonly rest: Omit<Config.Config, "channels" | "tables">
  readonly places: ReadonlyMap<string, string>
}

/** A channel or a table, and where the user named it. */
export interface Named<A> {
  readonly name: string
  readonly place: string
  readonly config: A
}

/** What is to be served, and the place of each key. */
export interface Joined extends Omit<Config.Config, "channels" | "tables"> {
  readonly channels: ReadonlyArray<Named<Config.Channel>>
  readonly tables: ReadonlyArray<Named<Config.Table>>
  /** The flag, the variable, or the key with its file. */
  readonly placeOf: (key: string) => string
}

const invalid = (where: string, reason: string) => new Config.InvalidGateway({ where, reason })

const entries = <A extends object>(record: Readonly<Record<string, A>> | undefined) =>
  Object.entries(record ?? {})

/** A table without its schema, and with it: `orders`, or `shop.orders`. */
const tableOf = (text: string): readonly [string, Config.Table] => {
  const dot = text.indexOf(".")
  return dot < 0 ? [text, {}] : [text.slice(dot + 1), { schema: text.slice(0, dot) }]
}

/** A table of a flag; its channel may be behind "=". */
const tableOfFlag = (text: string): readonly [string, Config.Table] => {
  const { channel, name, schema } = tableNamed(text) ?? { name: text }
  return [
    name,
    { ...(schema === undefined ? {} : { schema }), ...(channel === undefined ? {} : { channel }) }
  ]
}

/** A table of the file. With a schema beside it the key is its name, also where that has a dot. */
const tableOfFile = (key: string, config: Config.Table): readonly [string, Config.Table] => {
  if (config.schema !== undefined) return [key, config]
  const [name, table] = tableOf(key)
  return [name, { ...config, ...table }]
}

const needsTokens = (access: Config.Access | undefined): boolean =>
  access !== undefined && access !== "any"

const largestPort = 65_535

/** Fails for a port that there is not. */
const checkPort = ({ placeOf, port }: Joined): void => {
  if (port !== undefined && (port < 0 || port > largestPort)) {
    throw invalid(
      placeOf("port"),
      `${port} is no port. Give one from 1 to ${largestPort}, or 0 for a free one.`
    )
  }
}

/** Fails where any page of the web could use the cookie of a user. */
const checkCookie = ({ jwt, origins, placeOf }: Joined): void => {
  if (origins !== "any" || jwt?.cookie === undefined) return
  throw invalid(
    placeOf("origins"),
    `With tokens of a cookie (${placeOf("jwt.cookie")}) every page of the web could read and publish as a user who visits it. Name the pages that may connect, or let clients send their tokens themselves.`
  )
}

/** Fails where no client could use anything, or a rule needs tokens that are not checked. */
const check = ({ channels, jwt, tables }: Joined): void => {
  const all = [
    ...channels.map(({ config: { publish, read }, place }) => [place, read, publish] as const),
    ...tables.map(({ config: { read }, place }) => [place, read, undefined] as const)
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
      "Its rule needs tokens. Say how they are checked: with a secret in REALTIME_JWT_SECRET, with --jwt-keys, or with jwt in the file."
    )
  }
  if (all.some(([, read, publish]) => read !== undefined || publish !== undefined)) return
  throw invalid(
    "serve",
    "No client may use anything. Give --read and --publish, rules in the file, or --allow-all for a gateway that is open on purpose."
  )
}

/** Joins flags and file. `where` is the path of the file. Throws `InvalidGateway`. */
export const joined = (file: Config.Config, given: Flags, where = "the file"): Joined => {
  const { places, publish, read, rest } = given
  const allowAll = given.allowAll ?? file.allowAll ?? false
  const open = <A extends Config.Channel>(one: A): A =>
    allowAll && one.read === undefined && one.publish === undefined
      ? { ...one, read: "any", publish: "any" }
      : one
  const shown = (one: Config.Table): Config.Table =>
    allowAll && one.read === undefined ? { ...one, read: "any" } : one
  const inFile = (key: string) => `${where}: ${key}`
  const channels: ReadonlyArray<Named<Config.Channel>> = [
    ...entries(file.channels).map(([name, config]) => ({
      name,
      place: inFile(`channels.${name}`),
      config: open(config)
    })),
    ...given.channels.map(({ delivery, name, place }) => ({
      name,
      place: `${place} ${name}`,
      config: open({ delivery, ...rules(read, publish) })
    }))
  ]
  const tables: ReadonlyArray<Named<Config.Table>> = [
    ...entries(file.tables).map(([key, given]) => {
      const [name, config] = tableOfFile(key, shown(given))
      return { name, place: inFile(`tables.${key}`), config }
    }),
    ...given.tables.map(({ name: text, place }) => {
      const [name, config] = tableOfFlag(text)
      const table = shown({ ...config, ...rules(read, undefined) })
      return { name, place: `${place} ${text}`, config: table }
    })
  ]
  checkNames(channels, tables)
  const config: Joined = {
    ...file,
    ...rest,
    ...parts("jwt", file, rest),
    ...parts("nats", file, rest),
    ...parts("limits", file, rest),
    channels,
    tables,
    placeOf: (key) => places.get(key) ?? inFile(key)
  }
  check(config)
  checkPort(config)
  checkCookie(config)
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

/** Fails for a channel or a table that is named twice: one of the two would be lost. */
const checkNames = (
  channels: ReadonlyArray<Named<Config.Channel>>,
  tables: ReadonlyArray<Named<Config.Table>>
): void => {
  const channelPlaces = new Map<string, string>()
  const tablePlaces = new Map<string, string>()
  for (const { name, place } of channels) {
    const other = channelPlaces.get(name)
    if (other !== undefined) {
      throw invalid(place, `${other} has this channel too. Give it once, with one delivery.`)
    }
    channelPlaces.set(name, place)
  }
  for (const { config, name, place } of tables) {
    const whole = `${config.schema ?? "public"}.${name}`
    const same = tablePlaces.get(whole)
    if (same !== undefined) {
      throw invalid(place, `${same} has the table ${whole} too. Give it once.`)
    }
    tablePlaces.set(whole, place)
    const channel = Config.channelOf(name, config)
    const other = channelPlaces.get(channel)
    if (other !== undefined) {
      throw invalid(
        place,
        `${other} has the channel "${channel}" too. Give one of them another: --table ${whole}=<channel>, or the key "channel" of the table.`
      )
    }
    channelPlaces.set(channel, place)
  }
}
