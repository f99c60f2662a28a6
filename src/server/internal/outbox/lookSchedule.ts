/**
 * Decides when the reader looks next.
 *
 * A NOTIFY wakes the reader, but writers send at most one per 20 ms: after a wake it looks every few
 * milliseconds until it has found nothing for longer than that. Then it sleeps, and still looks at an
 * interval: that is the heartbeat, and the longest delay after a lost wake.
 */
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import { outboxReader, pollInterval } from "../../../internal/defaults.ts"

export type Wake = "hybrid" | "notify" | "poll"

/** Longer than the 20 ms for which the database holds a second NOTIFY back. */
const activeMillis = 40

interface Intervals {
  /** Milliseconds between two looks after activity. */
  readonly busy: number
  /** Milliseconds between two looks otherwise; `undefined` for 1 s, and 250 ms when polling. */
  readonly idle: number | undefined
}

export class Pace {
  readonly #times: Intervals
  readonly #nudges: Queue.Queue<void>
  /** Looks left before the reader sleeps. */
  #active = 0
  /** The current interval of polling, in milliseconds. */
  #step: number

  private constructor(times: Intervals, nudges: Queue.Queue<void>) {
    this.#times = times
    this.#nudges = nudges
    this.#step = times.busy
  }

  static make(times: Intervals): Effect.Effect<Pace> {
    return Effect.map(Queue.sliding<void>(1), (nudges) => new Pace(times, nudges))
  }

  /** Ends the current pause, or else the next one. */
  readonly nudge = (): void => {
    Queue.offerUnsafe(this.#nudges, undefined)
  }

  /** `found`: whether the last look found a message. */
  pause(wake: Wake, found: boolean): Effect.Effect<void> {
    const { busy, idle } = this.#times
    let delay: number
    if (wake === "poll") {
      this.#step = found ? busy : Math.min(idle ?? pollInterval, this.#step * 1.5)
      delay = this.#step
    } else {
      if (found) this.#active = this.#looks(wake)
      delay = this.#active > 0 ? busy : (idle ?? outboxReader.idleInterval)
      if (this.#active > 0) this.#active--
    }
    return Effect.raceFirst(
      Effect.sleep(delay),
      Effect.tap(Queue.take(this.#nudges), () =>
        Effect.sync(() => {
          this.#active = this.#looks(wake)
        })
      )
    )
  }

  #looks(wake: Wake): number {
    // Every commit notifies, so one look is enough.
    return wake === "notify" ? 1 : Math.max(8, Math.ceil(activeMillis / this.#times.busy))
  }
}
