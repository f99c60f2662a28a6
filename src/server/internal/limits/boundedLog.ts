/**
 * The log lines about refusals, bounded because a client may cause them without end. Metrics count
 * every refusal; these lines name the reason and the cure.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import { closeCodes } from "../../../Protocol.ts"

/** Milliseconds between two lines with the same key. */
const everyMillis = 60_000

const tenMinutes = 600_000

/** The most keys with a line within that time. */
const mostLines = 20

/** What goes on has a line again after twice the time, up to an hour. */
const mostMillis = 3_600_000

interface Said {
  at: number
  /** Milliseconds until the next line. */
  wait: number
  lines: number
  more: number
}

/** Decides whether to log an occurrence, and counts the ones that were not logged. */
export class Notices {
  readonly #every: number
  readonly #most: number
  readonly #burst: number
  readonly #said = new Map<string, Said>()

  /** `burst`: the lines of one key within that time. */
  constructor(every = everyMillis, most = mostLines, burst = 1) {
    this.#every = every
    this.#most = most
    this.#burst = burst
  }

  /**
   * Counts an occurrence. Returns the number of occurrences since the last line if one is due now;
   * `undefined` if the key was logged lately, or too many other keys were.
   */
  due(key: string, now: number): number | undefined {
    const known = this.#said.get(key)
    if (known !== undefined && Math.abs(now - known.at) < known.wait) {
      if (known.lines < this.#burst) {
        known.lines++
        return 0
      }
      known.more++
      return undefined
    }
    if (known === undefined && this.#said.size >= this.#most) {
      for (const [other, { at, wait }] of this.#said) {
        if (Math.abs(now - at) >= wait) this.#said.delete(other)
      }
      if (this.#said.size >= this.#most) return undefined
    }
    const more = known?.more ?? 0
    const goesOn = known !== undefined && Math.abs(now - known.at) < 2 * known.wait
    const wait = goesOn ? Math.min(2 * known.wait, mostMillis) : this.#every
    this.#said.set(key, { at: now, wait: Math.max(wait, this.#every), lines: 1, more: 0 })
    return more
  }
}

/** The lines about Streams and rows that an application reads, shared by all of one owner. */
const ofStreams = new WeakMap<object, Notices>()
export const streamNotices = (owner: object): Notices => {
  let notices = ofStreams.get(owner)
  if (notices === undefined) ofStreams.set(owner, (notices = new Notices(tenMinutes)))
  return notices
}

/** Logs defects in a loop or a part that goes on after one. */
export class Defects {
  readonly #notices = new Notices(tenMinutes)

  /** The line for a defect: each kind at most once in 10 minutes. */
  logged(what: string, defect: unknown): Effect.Effect<void> {
    return Effect.flatMap(Clock.currentTimeMillis, (now) => {
      const more = this.#notices.due(`${what} ${signatureOf(defect)}`, now)
      return more === undefined
        ? Effect.void
        : Effect.logError(sentence(`${what} failed, and goes on`, more), defect)
    })
  }
}

/** The kind of a failure: the start of its message, without its numbers. */
export const signatureOf = (error: unknown): string =>
  (error instanceof Error ? `${error.name}: ${error.message}` : typeof error)
    .slice(0, 80)
    .replace(/\d+/g, "0")

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
export interface Words {
  /** The lines by the reason of a refusal, in place of those here. */
  readonly rules: ReadonlyMap<string, Partial<RuleLine>>
  /** What raises a limit; `undefined` as here. */
  readonly raise: ((limit: string) => string) | undefined
  readonly origin: OriginWords
}

/** The words of an application. */
export const usualWords: Words = {
  rules: new Map(),
  raise: undefined,
  origin: { origins: "the option origins", trustProxy: "trustProxy" }
}

/** The words of the program whose door it is. */
export class LogWords extends Context.Reference<Words>("effect-realtime/server/LogWords", {
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
      cure: "Compare the key, the issuer and the audience of the tokens with those of authenticate"
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

/** A sentence with the number of times that it was not logged. */
export const sentence = (text: string, more: number): string =>
  more === 0 ? `${text}.` : `${text} (${more} more since this was last said).`

/** Text from a client, made safe for a log. */
export const quoted = (text: string | undefined): string =>
  text === undefined ? "none" : JSON.stringify(text.slice(0, 200))
