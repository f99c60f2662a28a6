/**
 * Moves what a source hears to the open live channels: one fiber for all of them, which wakes once for
 * everything that arrived together.
 *
 * After a delivery it rests for half the time that the slowest channel took, in whole milliseconds. A
 * busy node therefore joins what comes meanwhile into larger batches, and writes less often instead of
 * falling behind; on a quiet one the rest is over before anything comes. A rest ends early where much
 * waits: while the node delivers it reads nothing, and PostgreSQL keeps what it cannot send.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type { Heard } from "../../NotificationSource.ts"
import type { LiveChannel } from "./liveChannel.ts"

/** A channel whose delivery is shorter than this needs no rest, in nanoseconds: it has a few sockets. */
const leastDelivery = 100_000n
/** The longest rest, in milliseconds: what a burst may add to the latency of others. */
const mostRest = 20

/** No rest while more notifications than this wait: at 8 kB each, the most they have, 32 MB. */
const mostWaiting = 4096
/** How often a rest looks at how many wait, in milliseconds. */
const lookEvery = 5

export class Pump {
  /** The shortest time between two deliveries where little waits, in milliseconds. */
  readonly #window: number
  /** The channels that something waits for, in the order in which it came. */
  #touched: Array<LiveChannel> = []
  #waiting = 0
  /** Resumes the fiber; `undefined` while it delivers or rests. */
  #wake: (() => void) | undefined

  constructor(window: number) {
    this.#window = window
  }

  /** How many notifications wait. */
  get waiting(): number {
    return this.#waiting
  }

  /** Notes what arrived for a channel; it is delivered in a step of its own. */
  push(channel: LiveChannel, payload: Heard): void {
    if (channel.push(payload)) this.#touched.push(channel)
    this.#waiting++
    this.#wake?.()
  }

  /** Delivers for ever. */
  get run(): Effect.Effect<never> {
    return Effect.gen({ self: this }, function* () {
      const clock = yield* Clock.Clock
      while (true) {
        if (this.#touched.length === 0) yield* this.#arrival
        // What comes in one turn of the loop is joined.
        yield* Effect.yieldNow
        const touched = this.#touched
        this.#touched = []
        this.#waiting = 0
        const now = clock.currentTimeMillisUnsafe()
        let before = clock.monotonicTimeNanosUnsafe()
        let longest = 0n
        for (const channel of touched) {
          const missing = channel.deliver(now)
          // Only what comes to the same channel is joined: many channels of one socket save nothing by it.
          const after = clock.monotonicTimeNanosUnsafe()
          if (after - before > longest) longest = after - before
          before = after
          if (missing.length > 0) yield* channel.told.tell(channel.name, missing)
        }
        // Timers know whole milliseconds.
        const half = Math.min(Math.ceil(Number(longest) / 2e6), mostRest)
        const rest = Math.ceil(Math.max(this.#window, longest < leastDelivery ? 0 : half))
        for (let left = rest; left >= 1 && this.#waiting <= mostWaiting;) {
          yield* Effect.sleep(Math.min(left, lookEvery))
          left = rest - Number(clock.monotonicTimeNanosUnsafe() - before) / 1e6
        }
      }
    })
  }

  /** Completes when something arrives. */
  get #arrival(): Effect.Effect<void> {
    return Effect.callback<void>((resume) => {
      this.#wake = () => {
        this.#wake = undefined
        resume(Effect.void)
      }
      return Effect.sync(() => {
        this.#wake = undefined
      })
    })
  }
}
