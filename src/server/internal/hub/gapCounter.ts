/**
 * Counts and logs messages that are gaps, each once, however many subscribers, Streams and replays meet
 * it.
 *
 * A gap that the database reports for a good reason is no fault, and is neither counted nor logged.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as metrics from "../metrics.ts"
import { Notices, sentence } from "../notices.ts"
import type { Unfit } from "../reading/mismatch.ts"
import type { Missing } from "./invalidMessage.ts"

/** How many logged messages a node remembers, over all channels. */
const maxKnown = 4096
/** How many lines one fault of one channel has in a minute, and how many faults have lines. */
const maxLines = 5
const maxFaults = 20

export class Told {
  readonly #known = new Set<string>()
  readonly #lines = new Notices(60_000, maxFaults, maxLines)
  readonly #fate: string

  /** `fate`: what becomes of a message that does not match. */
  constructor(fate = "becomes a gap") {
    this.#fate = fate
  }

  /** Counts and logs the messages that were not logged before. */
  tell(channel: string, missing: ReadonlyArray<Missing>): Effect.Effect<void> {
    if (missing.length === 0) return Effect.void
    return Effect.gen({ self: this }, function* () {
      const fresh = missing.filter((one) => one.unfit !== undefined && this.#note(channel, one))
      if (fresh.length === 0) return
      const now = yield* Clock.currentTimeMillis
      const lines = fresh.flatMap((one) => {
        const before = this.#lines.due(`${channel} ${one.unfit!.path} ${one.unfit!.expected}`, now)
        if (before === undefined) return []
        return Effect.logWarning(sentence(line(channel, one, this.#fate), before))
      })
      const more = fresh.length - lines.length
      if (more > 0 && lines.length > 0) {
        lines.push(
          Effect.logWarning(
            `${more} more events of channel "${channel}" that arrived with these do not match it either.`
          )
        )
      }
      yield* Metric.update(metrics.notificationsInvalid, fresh.length)
      yield* Effect.all(lines, { discard: true })
    })
  }

  /** Logs that rows of a state do not match the schema; once for each channel and fault. */
  leftOut(channel: string, rows: number, unfit: Unfit): Effect.Effect<void> {
    return Effect.suspend(() => {
      const { expected, path } = unfit
      if (!this.#add(`${channel} rows ${path} ${expected}`)) return Effect.void
      const what = `The state of channel "${channel}" leaves out ${rows} ${rows === 1 ? "row" : "rows"} that its schema does not match`
      return Effect.logWarning(sentence(because(what, unfit), 0))
    })
  }

  #note(channel: string, { id, tx }: Missing): boolean {
    return this.#add(`${channel} ${id} ${tx}`)
  }

  #add(key: string): boolean {
    if (this.#known.has(key)) return false
    this.#known.add(key)
    if (this.#known.size > maxKnown) {
      for (const oldest of this.#known) {
        this.#known.delete(oldest)
        break
      }
    }
    return true
  }
}

const line = (channel: string, { id, unfit }: Missing, fate: string): string => {
  const what = `Event ${id} of channel "${channel}" does not match its schema and ${fate}`
  return because(what, unfit!)
}

const because = (what: string, { cure, expected, path }: Unfit): string =>
  `${what}: expected ${expected}${path === "" ? "" : ` at ${path}`}${cure === undefined ? "" : `. There ${cure}`}`

/** One log for each source or outbox. */
const each = (fate?: string): ((owner: object) => Told) => {
  const byOwner = new WeakMap<object, Told>()
  return (owner) => {
    let told = byOwner.get(owner)
    if (told === undefined) byOwner.set(owner, (told = new Told(fate)))
    return told
  }
}

/** The log of one source or outbox, shared by the sockets, Streams and consumers of a node. */
export const toldOf = each()

/** The same for the Streams of rows: a row that does not match is no gap there. */
export const toldOfRows = each("is left out of the rows")
