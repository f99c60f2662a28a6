/**
 * The options of a door with their defaults, checked: a limit that is no number limits nothing, one
 * that is misspelt is not in force, an origin that no browser ever sends lets nobody in. That is said
 * at start, and also to those who come without types.
 */
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import { inspect } from "node:util"
import { type DoorOptions, InvalidOption, type Limits } from "../../ServerOptions.ts"
import type { Rate } from "./bucket.ts"

type RateLimit =
  | "frames"
  | "authentications"
  | "subscribes"
  | "publishes"
  | "upgrades"
  | "upgradesPerAddress"
  | "channelOpens"
  | "looks"

/** The limits in force: durations in milliseconds. */
export type ResolvedLimits = {
  readonly [Key in keyof Limits]-?: Key extends RateLimit ? Rate : number
}

const bad = (option: string, value: unknown, expected: string): InvalidOption =>
  new InvalidOption({ option, value: textOf(value), expected })

const textOf = (value: unknown): string =>
  typeof value === "string" ? JSON.stringify(value) : inspect(value, { depth: 0 })

/** Only the type is told: what stands where a function belongs may be a secret. */
const checkFunction = (option: string, value: unknown, expected: string): void => {
  if (typeof value === "function") return
  throw new InvalidOption({ option, value: `of type ${typeof value}`, expected })
}

/** A whole number of something; `Infinity` where no client is told of it. */
const count = (name: string, value: number, least: number, unlimited = true): number => {
  if ((unlimited && value === Infinity) || (Number.isSafeInteger(value) && value >= least)) {
    return value
  }
  throw bad(
    `limits.${name}`,
    value,
    `a whole number of at least ${least}${unlimited ? ", or Infinity" : ""}`
  )
}

const rate = (name: string, value: Rate): Rate => {
  const { burst, perSecond } = value
  if (perSecond > 0 && burst >= 1 && Number.isFinite(perSecond) && Number.isFinite(burst)) {
    return value
  }
  throw bad(
    `limits.${name}`,
    value,
    "{ perSecond, burst } with perSecond above 0 and burst at least 1"
  )
}

/** Milliseconds. */
const time = (
  name: string,
  value: Duration.Input,
  { endless = false, least = 1 }: { readonly endless?: boolean; readonly least?: number } = {}
): number => {
  const duration = Option.getOrUndefined(Duration.fromInput(value))
  const millis = duration === undefined ? Number.NaN : Math.round(Duration.toMillis(duration))
  if (millis >= least && (endless || millis !== Infinity)) return millis
  throw bad(
    `limits.${name}`,
    value,
    `a duration of at least ${least} ms${endless ? "" : ", and not for ever"}, such as "10 seconds"`
  )
}

const withDefaults = (limits: Limits): ResolvedLimits => ({
  frameBytes: count("frameBytes", limits.frameBytes ?? 64 * 1024, 1, false),
  // The check itself walks as deep as it allows, and so does every schema behind it.
  frameDepth: Math.min(1000, count("frameDepth", limits.frameDepth ?? 64, 1, false)),
  frames: rate("frames", limits.frames ?? { perSecond: 200, burst: 400 }),
  unanswered: count("unanswered", limits.unanswered ?? 100, 1),
  unansweredBytes: count("unansweredBytes", limits.unansweredBytes ?? 256 * 1024, 1),
  authentications: rate("authentications", limits.authentications ?? { perSecond: 1, burst: 5 }),
  subscribes: rate("subscribes", limits.subscribes ?? { perSecond: 50, burst: 100 }),
  publishes: rate("publishes", limits.publishes ?? { perSecond: 20, burst: 50 }),
  hello: time("hello", limits.hello ?? "10 seconds"),
  ping: time("ping", limits.ping ?? "25 seconds"),
  slack: time("slack", limits.slack ?? "10 seconds"),
  mailboxBytes: count("mailboxBytes", limits.mailboxBytes ?? 1024 * 1024, 1, false),
  blocked: time("blocked", limits.blocked ?? "30 seconds"),
  subscriptions: count("subscriptions", limits.subscriptions ?? 100, 1, false),
  sessions: count("sessions", limits.sessions ?? 10_000, 0),
  sessionsPerIdentity: count("sessionsPerIdentity", limits.sessionsPerIdentity ?? 20, 1),
  sessionsPerAddress: count("sessionsPerAddress", limits.sessionsPerAddress ?? 100, 1),
  upgrades: rate("upgrades", limits.upgrades ?? { perSecond: 500, burst: 500 }),
  upgradesPerAddress: rate(
    "upgradesPerAddress",
    limits.upgradesPerAddress ?? { perSecond: 20, burst: 40 }
  ),
  channelOpens: rate("channelOpens", limits.channelOpens ?? { perSecond: 200, burst: 1000 }),
  looks: rate("looks", limits.looks ?? { perSecond: 1000, burst: 1000 }),
  sourceWait: time("sourceWait", limits.sourceWait ?? "10 seconds"),
  authorize: time("authorize", limits.authorize ?? "5 seconds"),
  tokenAge: time("tokenAge", limits.tokenAge ?? "Infinity", { endless: true }),
  drain: time("drain", limits.drain ?? "10 seconds", { least: 0 })
})

/** The limits with their defaults. Throws `InvalidOption`. */
export const resolveLimits = (limits: Limits = {}): ResolvedLimits => {
  if (typeof limits !== "object" || limits === null) {
    throw bad("limits", limits, `limits by their names, such as { hello: "10 seconds" }`)
  }
  const resolved = withDefaults(limits)
  for (const [name, value] of Object.entries(limits)) {
    if (Object.hasOwn(resolved, name)) continue
    throw bad(`limits.${name}`, value, `one of ${Object.keys(resolved).join(", ")}`)
  }
  return resolved
}

/** The options of any door. Of functions it can only be told that they are some. */
type Checked = Omit<DoorOptions, "channels"> & {
  readonly authenticate?: unknown
  readonly authorize: unknown
  readonly identityKey?: unknown
}

/** Throws `InvalidOption` where an option other than a limit cannot work. */
export const checkOptions = ({
  authenticate,
  authorize,
  identityKey,
  origins,
  path = "/realtime",
  slowConsumer = "gap",
  trustProxy = 0
}: Checked): void => {
  checkFunction("authorize", authorize, "a function, or allowAll to let everybody in")
  if (authenticate !== undefined) checkFunction("authenticate", authenticate, "a function")
  if (identityKey !== undefined) checkFunction("identityKey", identityKey, "a function")
  if (slowConsumer !== "gap" && slowConsumer !== "disconnect") {
    throw bad("slowConsumer", slowConsumer, `"gap" or "disconnect"`)
  }
  if (!/^\/[^?#\s]*$/.test(path)) {
    throw bad("path", path, `a path without a query, such as "/realtime"`)
  }
  if (!Number.isSafeInteger(trustProxy) || trustProxy < 0) {
    throw bad("trustProxy", trustProxy, "the number of your proxies in front, 0 or more")
  }
  if (origins === undefined || origins === "any") return
  if (!Array.isArray(origins)) throw bad("origins", origins, `a list of origins, or "any"`)
  for (const origin of origins as ReadonlyArray<string>) {
    const meant = originOf(origin)
    if (meant === undefined) {
      throw bad("origins", origin, `an origin such as "https://app.example.com", or "any" for all`)
    }
    if (meant !== origin) throw bad("origins", origin, `written as browsers send it: "${meant}"`)
  }
}

/** An origin as a browser writes it; `undefined` for what is none, `null` among it. */
export const originOf = (text: string): string | undefined => {
  if (!URL.canParse(text)) return undefined
  const { host, origin, protocol } = new URL(text)
  if (origin !== "null") return origin
  // A scheme of an app of its own, such as `capacitor://localhost`.
  return host === "" ? undefined : `${protocol}//${host}`
}
