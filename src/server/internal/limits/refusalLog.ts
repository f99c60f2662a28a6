/**
 * The log of a door about refusals and failures, each in few lines.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import { errorText } from "../../../internal/errorText.ts"
import { closeCodes, errorCodes } from "../../../Protocol.ts"
import type { ResolvedLimits } from "./limits.ts"
import { Notices, sentence, signatureOf } from "../notices.ts"
import {
  Crossings,
  type OriginWords,
  type RuleLine,
  ruleOf,
  usualWords,
  type LogWording
} from "./boundedLog.ts"
import { isToldByReader, type LimitName, tagOf } from "./refusalText.ts"

/** Milliseconds between two lines about one origin, and how many origins have lines within them. */
const originMillis = 3_600_000
const mostOrigins = 20

/** The unit of each limit of a door; for a rate, what it counts. */
const units: Readonly<Record<keyof ResolvedLimits, string>> = {
  maxFrameBytes: "bytes",
  maxFrameDepth: "levels",
  frameRate: "messages",
  maxUnanswered: "requests",
  maxUnansweredBytes: "bytes",
  authenticateRate: "tokens",
  subscribeRate: "requests",
  publishRate: "requests",
  volatileRate: "requests",
  helloTimeout: "ms",
  pingInterval: "ms",
  pingTimeout: "ms",
  maxMailboxBytes: "bytes",
  maxVolatileKeys: "events",
  blockedTimeout: "ms",
  maxSubscriptions: "subscriptions",
  maxSessions: "sessions",
  maxSessionsPerIdentity: "sessions",
  maxSessionsPerAddress: "sessions",
  upgradeRate: "upgrades",
  upgradeRatePerAddress: "upgrades",
  channelOpenRate: "channels",
  authorizeRate: "calls of authorize",
  maxPublishKeys: "keys",
  maxPublishKeysPerIdentity: "keys",
  maxPublishKeyAge: "ms",
  sourceTimeout: "ms",
  authorizeTimeout: "ms",
  maxTokenAge: "ms",
  drainTimeout: "ms"
}

/** The units and cures of the limits of the node beneath a door. */
const beneath: Readonly<
  Record<Exclude<LimitName, keyof ResolvedLimits>, { readonly unit: string; readonly cure: string }>
> = {
  maxChannels: {
    unit: "channels",
    cure: "raise maxChannels (of Realtime.layer, or of the class of ./node), or put the parameter of a family into the payload"
  },
  maxFilters: {
    unit: "filters",
    cure: "raise maxFilters of Realtime.layer, or route the table with by"
  },
  maxReplays: {
    unit: "replays",
    cure: "raise maxReplays (of OutboxReader.layer, or of the class of ./node), or add a node"
  },
  maxReplayQueue: {
    unit: "replays",
    cure: "raise maxReplayQueue (of OutboxReader.layer, or of the class of ./node), or add a node"
  }
}

/** Every reason for which a door counts refusals: no client can add one. */
export const refusalReasons: ReadonlyArray<string> = [
  ...Object.keys(units),
  ...Object.keys(beneath),
  ...Object.keys(errorCodes),
  ...Object.values(closeCodes).map(({ code }) => String(code)),
  // Of a socket that broke, and of upgrades.
  "1006",
  "400",
  "403",
  "503",
  "reset",
  "replay",
  "upgrade-untaken",
  "other"
]

/** The name of a limit with its value, if known, and the cure. */
const described = (
  limits: ResolvedLimits,
  reason: string,
  most: number | undefined
): { readonly name: string; readonly cure: string } | undefined => {
  if (Object.hasOwn(beneath, reason)) {
    const { cure, unit } = beneath[reason as keyof typeof beneath]
    return { name: most === undefined ? reason : `${reason} (${most} ${unit})`, cure }
  }
  if (!Object.hasOwn(limits, reason)) return undefined
  const limit = reason as keyof ResolvedLimits
  const value = limits[limit]
  const amount =
    typeof value === "number"
      ? `${value} ${units[limit]}`
      : `${value.perSecond} ${units[limit]} per second, ${value.burst} at once`
  return { name: `${reason} (${amount})`, cure: `raise limits.${reason}` }
}

/** Whether the database failed to answer, which is no defect of this server. */
const passes = (cause: Cause.Cause<unknown>): boolean =>
  tagOf(Cause.squash(cause)) === "SourceError"

const said = ({ cure, text }: RuleLine, more: number): Effect.Effect<void> =>
  cure === undefined
    ? Effect.logInfo(sentence(text, more))
    : Effect.logWarning(`${sentence(text, more)} ${cure}.`)

export class Voice {
  readonly #limits: ResolvedLimits
  readonly #words: LogWording
  readonly #rules = new Notices()
  /** Apart from the rules: these have names of channels, and clients choose those. */
  readonly #channels = new Notices()
  readonly #failures = new Notices()
  readonly #origins = new Notices(originMillis, mostOrigins)
  readonly #crossings = new Crossings()

  constructor(limits: ResolvedLimits, words: LogWording = usualWords) {
    this.#limits = limits
    this.#words = words
  }

  /** The log line for a refusal, if one is due. `most`: the limit's value; `why`: the reason with its cure. */
  refused(
    reason: string,
    now: number,
    most?: number,
    why?: string
  ): Effect.Effect<void> | undefined {
    const rule = ruleOf(reason)
    if (rule !== undefined) {
      const more = this.#rules.due(why === undefined ? reason : `${reason} ${why}`, now)
      const line = { ...rule, ...this.#words.rules.get(reason) }
      return more === undefined
        ? undefined
        : said(why === undefined ? line : { ...line, cure: why }, more)
    }
    const limit = described(this.#limits, reason, most)
    if (limit === undefined) return undefined
    const cure = this.#words.raise?.(reason) ?? limit.cure
    const streak = this.#crossings.crossed(reason, now)
    if (streak === undefined || this.#rules.due(`limit ${reason}`, now) === undefined) {
      return undefined
    }
    const seconds = Math.round((now - streak.since) / 1000)
    return Effect.logWarning(
      `The limit ${limit.name} was crossed ${streak.times} times in the last ${seconds} s. If honest clients need more, ${cure}.`
    )
  }

  /** The log line for a rejected origin. */
  origin(
    origin: string,
    now: number,
    fault: (words: OriginWords) => string
  ): Effect.Effect<void> | undefined {
    return this.#origins.due(origin.slice(0, 200), now) === undefined
      ? undefined
      : Effect.logWarning(`${fault(this.#words.origin)}.`)
  }

  /** Logs a rejection by a rule of the application. */
  notice(key: string, text: string, now: number): Effect.Effect<void> {
    const more = this.#channels.due(key, now)
    return more === undefined ? Effect.void : Effect.logInfo(sentence(text, more))
  }

  /** Logs a rejection that a change of the server's options would cure. */
  advice(key: string, rule: Required<RuleLine>, now: number): Effect.Effect<void> {
    const more = this.#rules.due(key, now)
    return more === undefined ? Effect.void : said({ ...rule, ...this.#words.rules.get(key) }, more)
  }

  /** Logs a failure, if a line is due. The reader itself logs why the outbox cannot be read. */
  failed(what: string, cause: Cause.Cause<unknown>, now: number): Effect.Effect<void> {
    if (isToldByReader(Cause.squash(cause))) return Effect.void
    const error = Cause.squash(cause)
    if (tagOf(error) === "KeysUnavailable") {
      const more = this.#rules.due("KeysUnavailable", now)
      return more === undefined
        ? Effect.void
        : Effect.logWarning(sentence(`${what}: ${errorText(error)}`, more))
    }
    // Without names: a client chooses them, and must not fill the list.
    const kind = what.replace(/"[^"]*"/g, "")
    const more = this.#failures.due(`${kind} ${signatureOf(error)}`, now)
    if (more === undefined) return Effect.void
    return (passes(cause) ? Effect.logWarning : Effect.logError)(sentence(what, more), cause)
  }
}
