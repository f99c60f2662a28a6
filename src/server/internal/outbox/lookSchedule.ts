/**
 * When the reader looks next.
 *
 * A NOTIFY wakes it, but writers send at most one per 20 ms: after a wake it looks every few
 * milliseconds until nothing came for longer than that. In between it sleeps, and looks once in a
 * while anyway: that is the heartbeat, and what a lost wake costs at most.
 */
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import { outboxReader, pollInterval } from "../../../internal/defaults.ts"

export type Wake = "hybrid" | "notify" | "poll"

/** Longer than the 20 ms for which the database holds a second NOTIFY back. */
const activeMillis = 40

interface Intervals {
  /** Milliseconds between two looks while something happens. */
  readonly busy: number
  /** And while nothing does; `undefined` for 1 s, and 250 ms when polling. */
  readonly idle: number | undefined
}

export class Pace {
  readonly #times: Intervals
  readonly #nudges: Queue.Queue<void>
  /** Empty looks left before sleeping. */
  #active = 0
  /** The current step of polling. */
  #step: number

  private constructor(times: Intervals, nudges: Queue.Queue<void>) {
    this.#times = times
    this.#nudges = nudges
    this.#step = times.busy
  }

  static make(times: Intervals): Effect.Effect<Pace> {
    return Effect.map(Queue.sliding<void>(1), (nudges) => new Pace(times, nudges))
  }

  /** Ends a pause, or the next one before it begins. */
  readonly nudge = (): void => {
    Queue.offerUnsafe(this.#nudges, undefined)
  }

  /** `found`: whether the last look found something. */
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
    // Every commit notifies: after an empty look there is nothing to wait for.
    return wake === "notify" ? 1 : Math.max(8, Math.ceil(activeMillis / this.#times.busy))
  }
}
