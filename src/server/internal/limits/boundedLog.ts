/**
 * What a person reads in the log about what is refused: bounded, because a client may ask without end.
 * Every refusal is counted elsewhere; here is said that there are some, why, and the cure.
 */
import { closeCodes } from "../../../Protocol.ts"

/** Time between two lines about the same. */
const everyMillis = 60_000

/** Lines about different things within that time. */
const mostLines = 20

/** Says how often something happened since it was last said, and when to say it. */
export class Notices {
  readonly #every: number
  readonly #most: number
  readonly #said = new Map<string, { at: number; more: number }>()

  constructor(every = everyMillis, most = mostLines) {
    this.#every = every
    this.#most = most
  }

  /**
   * It has happened. Gives how often it did without a word since the last one, when it is to be said now;
   * `undefined` when it was said lately, or too much else was.
   */
  due(key: string, now: number): number | undefined {
    const known = this.#said.get(key)
    if (known !== undefined && Math.abs(now - known.at) < this.#every) {
      known.more++
      return undefined
    }
    if (known === undefined && this.#said.size >= this.#most) {
      for (const [other, { at }] of this.#said) {
        if (Math.abs(now - at) >= this.#every) this.#said.delete(other)
      }
      if (this.#said.size >= this.#most) return undefined
    }
    this.#said.set(key, { at: now, more: 0 })
    return known?.more ?? 0
  }
}

/** What is refused for so long is no accident any more. */
const longMillis = 10_000

interface Streak {
  since: number
  last: number
  times: number
}

/** Limits that are crossed over and over. */
export class Crossings {
  readonly #streaks = new Map<string, Streak>()

  /** It was crossed. Gives the streak when it is a long one: without a pause of 10 s for 10 s. */
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

/** Why somebody was refused that no limit has kept out. */
const rules = new Map([
  ["auth/required", "authenticate refused a client: it wants a token, and there was none"],
  ["auth/invalid", "authenticate refused a client: its token is not valid"],
  ["auth/expired", "authenticate refused a client: its token had ended"],
  [
    String(closeCodes.tokenExpired.code),
    "A session was closed with 4100: its token ended, and the client sent no fresh one. One with a token callback does so by itself"
  ],
  ["channel/unknown", "A client asked for a channel that no definition of this server matches"]
])

/** The line about a reason that is counted, if it has one. */
export const ruleOf = (reason: string): string | undefined => rules.get(reason)

/** A sentence, and how often it would have been said. */
export const sentence = (text: string, more: number): string =>
  more === 0 ? `${text}.` : `${text} (${more} more since this was last said).`

/** What a client wrote, as it may stand in a log. */
export const quoted = (text: string | undefined): string =>
  text === undefined ? "none" : JSON.stringify(text.slice(0, 200))
