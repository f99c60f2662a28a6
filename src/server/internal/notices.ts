/**
 * Bounds what the log repeats: lines about refusals, failures and defects, which a client or a broken part may
 * cause without end.
 *
 * In: a key and the time of each occurrence. Out: whether a line is due, and how often it was left out.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"

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

  /** `every`: an hour at most; `burst`: the lines of one key within that time. */
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
    const goesOn = known !== undefined && now > known.at && now - known.at < 2 * known.wait
    const wait = goesOn ? Math.min(2 * known.wait, mostMillis) : this.#every
    this.#said.set(key, { at: now, wait, lines: 1, more: 0 })
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

/** A sentence with the number of times that it was not logged. */
export const sentence = (text: string, more: number): string =>
  more === 0 ? `${text}.` : `${text} (${more} more since this was last said).`
