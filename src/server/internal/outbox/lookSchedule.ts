/**
 * Decides when the reader looks next.
 *
 * A NOTIFY wakes the reader, and it looks at once. Its text says whether the next commit sends one too. If
 * not, commits come faster than looks are worth: for 20 ms they are silent, and the reader looks every
 * 5 ms until then. A silent commit that becomes visible later is still in progress at the last of these
 * looks, and the reader looks again until every transaction that had begun by then is over. So no commit
 * waits longer than 5 ms, or half as long again as it took to become visible. Then the reader sleeps, and
 * still looks at an interval: that is the heartbeat, and the longest delay after a lost wake.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import { outboxReader, pollInterval } from "../../../internal/defaults.ts"
import { silentMillis } from "../sql/wake.ts"

export type Wake = "hybrid" | "notify" | "poll"

/** From a wake on, a look after so many milliseconds sees whether a commit is still silent because of it. */
const silentFor = silentMillis + 1

interface Intervals {
  /** Milliseconds between two looks while commits are silent. */
  readonly busy: number
  /** Milliseconds between two looks otherwise; `undefined` for 1 s, and 250 ms when polling. */
  readonly idle: number | undefined
}

/** What the last look says about the next one. */
export interface Looked {
  /** When its statement was sent, in milliseconds of the monotonic clock. */
  readonly at: number
  /** How many messages it found, of the channels that are followed. */
  readonly found: number
  /** Every transaction with a lower number was over. */
  readonly xmin: bigint
  /** No transaction had this number yet, nor a higher one. */
  readonly next: bigint
}

/** Milliseconds of the monotonic clock. */
export const monotonic: Effect.Effect<number> = Effect.map(
  Clock.monotonicTimeNanos,
  (nanos) => Number(nanos) / 1e6
)

export class Pace {
  readonly #times: Intervals
  readonly #nudges: Queue.Queue<void>
  /** The current interval of polling, in milliseconds. */
  #step: number
  /** From when on a look sees whether a commit is still silent because of a wake. */
  #due: number | undefined
  /** The reader looks again until every transaction with a lower number is over. */
  #until: bigint | undefined
  /** The next interval of these looks, in milliseconds. */
  #again: number

  private constructor(times: Intervals, nudges: Queue.Queue<void>) {
    this.#times = times
    this.#nudges = nudges
    this.#step = times.busy
    this.#again = times.busy
  }

  static make(times: Intervals): Effect.Effect<Pace> {
    return Effect.map(Queue.sliding<void>(1), (nudges) => new Pace(times, nudges))
  }

  /** Ends the current pause, or else the next one. */
  readonly nudge = (): void => {
    Queue.offerUnsafe(this.#nudges, undefined)
  }

  /** Completes at the next nudge. */
  get nudged(): Effect.Effect<void> {
    return Queue.take(this.#nudges)
  }

  /** The same for a wake after which commits may be silent. */
  readonly silence: Effect.Effect<void> = Effect.map(monotonic, (now) => {
    this.#due = now + silentFor
    this.nudge()
  })

  /** Waits for the next look; `looked` is `undefined` before the first one. */
  pause(wake: Wake, looked: Looked | undefined): Effect.Effect<void> {
    return Effect.flatMap(monotonic, (now) =>
      Effect.raceFirst(
        Effect.sleep(Math.max(0, this.#delay(wake, looked, now))),
        Queue.take(this.#nudges)
      )
    )
  }

  #delay(wake: Wake, looked: Looked | undefined, now: number): number {
    const { busy } = this.#times
    if (wake === "poll") {
      const idle = this.#times.idle ?? pollInterval
      this.#step = (looked?.found ?? 0) > 0 ? busy : Math.min(idle, this.#step * 1.5)
      return this.#step
    }
    const idle = this.#times.idle ?? outboxReader.idleInterval
    // Every commit notifies, so one look is enough.
    if (looked === undefined || wake === "notify") return idle
    if (this.#due !== undefined && looked.at >= this.#due) {
      this.#due = undefined
      this.#until = looked.next
      this.#again = busy
    }
    let delay = this.#due === undefined ? idle : Math.min(busy, idle, this.#due - now)
    if (this.#until !== undefined) {
      // Not whether the snapshot names a transaction: it names none above the last one that is over.
      if (looked.xmin >= this.#until) this.#until = undefined
      else {
        delay = Math.min(delay, this.#again)
        this.#again *= 2
      }
    }
    return delay
  }
}
