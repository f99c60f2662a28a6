/**
 * The options of a door with their defaults, checked at start, also for callers without types: a limit
 * that is not a number would limit nothing, a misspelt one would not be in force, and an origin that no
 * browser sends would admit no client.
 */
import type * as Duration from "effect/Duration"
import { limits as Defaults, server as serverDefaults } from "../../../internal/defaults.ts"
import type { DoorOptions, Limits } from "../../ServerOptions.ts"
import * as Options from "../options.ts"
import { InvalidOption, type Rate } from "../options.ts"

type RateLimit =
  | "frameRate"
  | "authenticateRate"
  | "subscribeRate"
  | "publishRate"
  | "volatileRate"
  | "upgradeRate"
  | "upgradeRatePerAddress"
  | "channelOpenRate"
  | "authorizeRate"

/** The limits in force. Durations are in milliseconds. */
export type ResolvedLimits = {
  readonly [Key in keyof Limits]-?: Key extends RateLimit ? Rate : number
}

/** Names only the type of the value, because it may be a secret. */
const checkFunction = (option: string, value: unknown, expected: string): void => {
  if (typeof value === "function") return
  throw new InvalidOption({ option, value: `of type ${typeof value}`, expected })
}

/** A whole number of at least 1, because 0 of anything serves no client; `Infinity` only if `unlimited`. */
const count = (name: string, value: number, unlimited = true): number =>
  Options.count(`limits.${name}`, value, { unlimited })

const rate = (name: string, value: Rate): Rate => {
  const { burst, perSecond } = Object(value) as Rate
  if (perSecond > 0 && burst >= 1 && Number.isFinite(perSecond) && Number.isFinite(burst)) {
    return value
  }
  throw Options.invalid(
    `limits.${name}`,
    value,
    "{ perSecond, burst } with perSecond above 0 and burst at least 1"
  )
}

/** A duration, in milliseconds. */
const time = (name: string, value: Duration.Input, range?: Options.TimeRange): number =>
  Options.millis(`limits.${name}`, value, range)

const withDefaults = (limits: Limits): ResolvedLimits => ({
  maxFrameBytes: count("maxFrameBytes", limits.maxFrameBytes ?? Defaults.maxFrameBytes, false),
  // At most 1000: the check and every schema after it recurse to this depth.
  maxFrameDepth: Math.min(
    1000,
    count("maxFrameDepth", limits.maxFrameDepth ?? Defaults.maxFrameDepth, false)
  ),
  frameRate: rate("frameRate", limits.frameRate ?? Defaults.frameRate),
  maxUnanswered: count("maxUnanswered", limits.maxUnanswered ?? Defaults.maxUnanswered),
  maxUnansweredBytes: count(
    "maxUnansweredBytes",
    limits.maxUnansweredBytes ?? Defaults.maxUnansweredBytes
  ),
  authenticateRate: rate("authenticateRate", limits.authenticateRate ?? Defaults.authenticateRate),
  subscribeRate: rate("subscribeRate", limits.subscribeRate ?? Defaults.subscribeRate),
  publishRate: rate("publishRate", limits.publishRate ?? Defaults.publishRate),
  volatileRate: rate("volatileRate", limits.volatileRate ?? Defaults.volatileRate),
  helloTimeout: time("helloTimeout", limits.helloTimeout ?? Defaults.helloTimeout),
  pingInterval: time("pingInterval", limits.pingInterval ?? Defaults.pingInterval),
  pingTimeout: time("pingTimeout", limits.pingTimeout ?? Defaults.pingTimeout),
  maxMailboxBytes: count(
    "maxMailboxBytes",
    limits.maxMailboxBytes ?? Defaults.maxMailboxBytes,
    false
  ),
  maxVolatileKeys: count(
    "maxVolatileKeys",
    limits.maxVolatileKeys ?? Defaults.maxVolatileKeys,
    false
  ),
  blockedTimeout: time("blockedTimeout", limits.blockedTimeout ?? Defaults.blockedTimeout),
  maxSubscriptions: count(
    "maxSubscriptions",
    limits.maxSubscriptions ?? Defaults.maxSubscriptions,
    false
  ),
  maxSessions: count("maxSessions", limits.maxSessions ?? Defaults.maxSessions),
  maxSessionsPerIdentity: count(
    "maxSessionsPerIdentity",
    limits.maxSessionsPerIdentity ?? Defaults.maxSessionsPerIdentity
  ),
  maxSessionsPerAddress: count(
    "maxSessionsPerAddress",
    limits.maxSessionsPerAddress ?? Defaults.maxSessionsPerAddress
  ),
  upgradeRate: rate("upgradeRate", limits.upgradeRate ?? Defaults.upgradeRate),
  upgradeRatePerAddress: rate(
    "upgradeRatePerAddress",
    limits.upgradeRatePerAddress ?? Defaults.upgradeRatePerAddress
  ),
  channelOpenRate: rate("channelOpenRate", limits.channelOpenRate ?? Defaults.channelOpenRate),
  authorizeRate: rate("authorizeRate", limits.authorizeRate ?? Defaults.authorizeRate),
  maxPublishKeys: count("maxPublishKeys", limits.maxPublishKeys ?? Defaults.maxPublishKeys),
  maxPublishKeysPerIdentity: count(
    "maxPublishKeysPerIdentity",
    limits.maxPublishKeysPerIdentity ?? Defaults.maxPublishKeysPerIdentity
  ),
  maxPublishKeyAge: time("maxPublishKeyAge", limits.maxPublishKeyAge ?? Defaults.maxPublishKeyAge, {
    endless: true
  }),
  sourceTimeout: time("sourceTimeout", limits.sourceTimeout ?? Defaults.sourceTimeout),
  authorizeTimeout: time("authorizeTimeout", limits.authorizeTimeout ?? Defaults.authorizeTimeout),
  maxTokenAge: time("maxTokenAge", limits.maxTokenAge ?? Defaults.maxTokenAge, { endless: true }),
  drainTimeout: time("drainTimeout", limits.drainTimeout ?? Defaults.drainTimeout, { least: 0 })
})

/** The limits with their defaults. Throws `InvalidOption` for an invalid or unknown limit. */
export const resolveLimits = (limits: Limits = {}): ResolvedLimits => {
  if (typeof limits !== "object" || limits === null) {
    throw Options.invalid(
      "limits",
      limits,
      `limits by their names, such as { helloTimeout: "10 seconds" }`
    )
  }
  const resolved = withDefaults(limits)
  for (const [name, value] of Object.entries(limits)) {
    if (Object.hasOwn(resolved, name)) continue
    throw Options.invalid(`limits.${name}`, value, `one of ${Object.keys(resolved).join(", ")}`)
  }
  return resolved
}

/** The options of any door. Of a callback only its type can be checked. */
type Checked = Omit<DoorOptions, "channels"> & {
  readonly authenticate?: unknown
  readonly authorize?: unknown
  readonly rules?: unknown
  readonly identityKey?: unknown
}

/** Checks the options other than limits. Throws `InvalidOption` for one that cannot work. */
export const checkOptions = ({
  authenticate,
  authorize,
  control = serverDefaults.control,
  identityKey,
  origins,
  path = "/realtime",
  rules,
  slowConsumer = "gap",
  trustProxy = serverDefaults.trustProxy
}: Checked): void => {
  if (rules === undefined) {
    checkFunction("authorize", authorize, "a function, or allowAll to admit every client")
  } else {
    checkFunction("rules", rules, "a function that returns a list of rules")
    if (authorize !== undefined) {
      throw new InvalidOption({
        option: "rules",
        value: "given beside authorize",
        expected: "given without it, because both decide about the same requests"
      })
    }
  }
  if (authenticate !== undefined) checkFunction("authenticate", authenticate, "a function")
  if (identityKey !== undefined) checkFunction("identityKey", identityKey, "a function")
  if (slowConsumer !== "gap" && slowConsumer !== "disconnect") {
    throw Options.invalid("slowConsumer", slowConsumer, `"gap" or "disconnect"`)
  }
  if (typeof control !== "boolean") throw Options.invalid("control", control, "true or false")
  if (!/^\/[^?#\s]*$/.test(path)) {
    throw Options.invalid("path", path, `a path without a query, such as "/realtime"`)
  }
  if (!Number.isSafeInteger(trustProxy) || trustProxy < 0) {
    throw Options.invalid(
      "trustProxy",
      trustProxy,
      "the number of your proxies in front, 0 or more"
    )
  }
  if (origins === undefined || origins === "any") return
  if (!Array.isArray(origins))
    throw Options.invalid("origins", origins, `a list of origins, or "any"`)
  for (const origin of origins as ReadonlyArray<string>) {
    const meant = originOf(origin)
    if (meant === undefined) {
      throw Options.invalid(
        "origins",
        origin,
        `an origin such as "https://app.example.com", or "any" for all`
      )
    }
    if (meant !== origin)
      throw Options.invalid("origins", origin, `written as browsers send it: "${meant}"`)
  }
}

/** The origin as a browser writes it; `undefined` for `null` or an invalid one. */
export const originOf = (text: string): string | undefined => {
  if (!URL.canParse(text)) return undefined
  const { host, origin, protocol } = new URL(text)
  if (origin !== "null") return origin
  // The scheme of an app, such as `capacitor://localhost`.
  return host === "" ? undefined : `${protocol}//${host}`
}
