/**
 * What the log says of something that is lost, or keeps failing, until it is back.
 *
 * In: each failure with its reason, and the moment when it works again. Out: the lines that are due: one at
 * the loss, one for another reason, one in 10 minutes while it lasts, and one when it is back. A part that
 * is lost again and again has lines for three losses in 10 minutes, and for those that last a minute.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type { Notices } from "./notices.ts"

/** Milliseconds between two lines about one loss with nothing new. */
const remindMillis = 600_000
/** How many losses are logged at once within that time. */
const mostLosses = 3
/** Milliseconds after which a loss is logged all the same. */
const longMillis = 60_000
/** Milliseconds for which another reason is no news: a restart has several. */
const newsMillis = 10_000
/** How many reasons of one loss have a line of their own. */
const mostReasons = 5

export interface Words {
  /** As in "The link is down". The reason follows. */
  readonly lost: string
  /** As in "The link is back". How long it was lost follows. */
  readonly back: string
  /** `false` where a failure is no attempt; default `true`. */
  readonly counts?: false
  /** What bounds the lines of many of a kind. */
  readonly among?: Notices | undefined
}

/** One loss, from its first failure. */
interface Loss {
  readonly since: number
  attempts: number
  /** When it had its last line; `undefined` before the first. */
  told: number | undefined
  /** Whether that line was its own: another one of its kind may have had it. */
  said: boolean
  readonly reasons: Set<string>
}

const times = (count: number): string => `${count} failed attempt${count === 1 ? "" : "s"}`

/** Milliseconds as text: tenths of a second, minutes, or hours and minutes. */
const spanText = (millis: number): string => {
  if (millis < 60_000) return `${Math.round(Math.max(0, millis) / 100) / 10} s`
  const minutes = Math.floor(millis / 60_000)
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`
}

export class Outage {
  readonly words: Words
  #loss: Loss | undefined
  /** When the last losses were logged. */
  #begun: Array<number> = []
  /** Losses without a line, since the last line. */
  #untold = 0

  constructor(words: Words) {
    this.words = words
  }

  /** The line for a failure, if one is due. `lasts`: waiting does not fix it. */
  failed(reason: string, now: number, lasts = false): string | undefined {
    const loss = (this.#loss ??= {
      since: now,
      attempts: 0,
      told: undefined,
      said: false,
      reasons: new Set()
    })
    loss.attempts++
    const lasted = now - loss.since
    // Ports and durations are no other reason.
    const key = reason.replace(/\d+/g, "0")
    if (loss.told === undefined) {
      this.#begun = this.#begun.filter((at) => Math.abs(now - at) < remindMillis)
      if (this.#begun.length >= mostLosses && lasted < longMillis) return undefined
      this.#begun.push(now)
    } else {
      const isNews =
        (lasts || lasted >= newsMillis) && loss.reasons.size < mostReasons && !loss.reasons.has(key)
      if (!isNews && Math.abs(now - loss.told) < remindMillis) return undefined
    }
    const { among, lost } = this.words
    // Counts as logged: another of its kind had the line.
    loss.told = now
    loss.reasons.add(key)
    if (among !== undefined && among.due(lost, now) === undefined) return undefined
    loss.said = true
    const more = this.#untold
    this.#untold = 0
    const since = loss.attempts === 1 ? "" : `, for ${this.#length(loss, now)}`
    const before = more === 0 ? "" : `, after ${more} short losses without a line`
    return `${lost}${since}${before}: ${reason}`
  }

  /** The line for its return, if its loss had one. */
  back(now: number): string | undefined {
    const loss = this.#loss
    if (loss === undefined) return undefined
    this.#loss = undefined
    if (loss.told === undefined) {
      this.#untold++
      return undefined
    }
    if (!loss.said) return undefined
    return `${this.words.back}, after ${this.#length(loss, now)}`
  }

  #length({ attempts, since }: Loss, now: number): string {
    const span = spanText(now - since)
    return this.words.counts === false ? span : `${span} and ${times(attempts)}`
  }

  /** Logs a failure: a warning if a line is due, else for debugging. */
  readonly failing = (
    reason: string,
    cause?: Cause.Cause<unknown>,
    lasts?: boolean
  ): Effect.Effect<void> =>
    Effect.flatMap(Clock.currentTimeMillis, (now) => {
      const line = this.failed(reason, now, lasts)
      if (line === undefined) {
        const { counts, lost } = this.words
        return counts === false ? Effect.void : Effect.logDebug(`${lost}: ${reason}`)
      }
      // A defect is of this library, and its place matters.
      return cause !== undefined && isDefect(cause)
        ? Effect.logError(line, cause)
        : Effect.logWarning(line)
    })

  /** Logs that it works again, if it was lost. Without a loss it reads no clock: it runs after each batch. */
  readonly recovered: Effect.Effect<void> = Effect.suspend(() =>
    this.#loss === undefined
      ? Effect.void
      : Effect.flatMap(Clock.currentTimeMillis, (now) => {
          const line = this.back(now)
          return line === undefined ? Effect.void : Effect.logInfo(line)
        })
  )
}

/** Whether nothing failed as it may. */
export const isDefect = (cause: Cause.Cause<unknown>): boolean =>
  Cause.hasDies(cause) && !Cause.hasFails(cause)
