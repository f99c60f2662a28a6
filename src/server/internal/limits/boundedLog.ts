/**
 * The log lines about refusals. Metrics count every refusal; these lines name the reason and the cure.
 * `notices.ts` bounds them.
 */
import * as Context from "effect/Context"
import { closeCodes } from "../../../Protocol.ts"

/** A limit that is exceeded for so many milliseconds is worth a line. */
const longMillis = 10_000

interface Streak {
  since: number
  last: number
  times: number
}

/** The limits that clients keep exceeding. */
export class Crossings {
  readonly #streaks = new Map<string, Streak>()

  /** Counts an excess. Returns the streak if it is 10 s long, without a pause of 10 s. */
  crossed(limit: string, now: number): Readonly<Streak> | undefined {
    let streak = this.#streaks.get(limit)
    if (streak === undefined || Math.abs(now - streak.last) > longMillis) {
      this.#streaks.set(limit, (streak = { since: now, last: now, times: 0 }))
    }
    streak.last = now
    streak.times++
    return now - streak.since >= longMillis ? streak : undefined
  }
}

/** A line about refusals by a rule instead of a limit. With a cure it is a warning. */
export interface RuleLine {
  readonly text: string
  readonly cure?: string
}

/** What the options about origins are called. */
export interface OriginWords {
  readonly origins: string
  readonly trustProxy: string
}

/**
 * Lines of the log in the words of another program than an application: it has no definitions, callbacks or
 * options, and its user cannot follow a cure that names them.
 */
export interface LogWording {
  /** The lines by the reason of a refusal, in place of those here. */
  readonly rules: ReadonlyMap<string, Partial<RuleLine>>
  /** What raises a limit; `undefined` as here. */
  readonly raise: ((limit: string) => string) | undefined
  readonly origin: OriginWords
}

/** The words of an application. */
export const usualWords: LogWording = {
  rules: new Map(),
  raise: undefined,
  origin: { origins: "the option origins", trustProxy: "trustProxy" }
}

/** The words of the program whose door it is. */
export class LogWords extends Context.Reference<LogWording>("effect-realtime/server/LogWords", {
  defaultValue: () => usualWords
}) {}

const rules = new Map<string, RuleLine>([
  [
    "auth/required",
    {
      text: "authenticate refused a client: it sent no token",
      cure: "Give the client a token callback (the option token), or let authenticate accept clients without one"
    }
  ],
  [
    "auth/invalid",
    {
      text: "authenticate refused a client: its token is not valid",
      cure: "Compare the key, the issuer and the audience of the tokens with those of authenticate, and whether the tokens have the claims exp and sub"
    }
  ],
  ["auth/expired", { text: "authenticate refused a client: its token had expired" }],
  [
    String(closeCodes.tokenExpired.code),
    {
      text: "A session was closed with 4100: its token expired, and the client sent no new one. A client with a token callback sends one by itself"
    }
  ],
  [
    String(closeCodes.versionNotSupported.code),
    {
      text: "A session was closed with 4201: its client speaks another version of the protocol",
      cure: "Update the client or this server, so that both speak one version"
    }
  ],
  [
    "channel/unknown",
    {
      text: "A client asked for a channel that no definition of this server matches",
      cure: "Add the definition to channels, or compare the name with that of the client"
    }
  ],
  [
    "subscribe/invalid-where",
    {
      text: "A client asked for rows with a filter that its channel does not have",
      cure: "List the column in filter of Channel.table, and run the installer again"
    }
  ]
])

/** The line about a reason, if it is a rule. */
export const ruleOf = (reason: string): RuleLine | undefined => rules.get(reason)

/** Text from a client, made safe for a log. */
export const quoted = (text: string | undefined): string =>
  text === undefined ? "none" : JSON.stringify(text.slice(0, 200))
