/**
 * Delivers what arrives for the open channels of a delivery, such as notifications for live ones. One
 * fiber serves all channels, and wakes once for everything that arrived together.
 *
 * After a delivery it rests for half the time that the slowest channel took, in whole milliseconds. A
 * busy node therefore joins notifications into larger batches, and writes less often instead of falling
 * behind. On a quiet node the rest ends before the next notification. A rest ends early when many
 * notifications wait: the node reads nothing while it delivers, and PostgreSQL keeps what it cannot
 * send.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as metrics from "../metrics.ts"
import type { Told } from "./gapCounter.ts"
import type { Missing } from "./invalidMessage.ts"

/** A channel that collects what arrives until the pump delivers it. */
export interface Pumped<in Item> {
  readonly name: string
  readonly told: Told
  /** Adds an item. Returns `true` when it is the first one that waits for `deliver`. */
  readonly push: (item: Item) => boolean
  /** Hands what waits to the subscribers, at `now` milliseconds. Returns the messages to log. */
  readonly deliver: (now: number) => ReadonlyArray<Missing>
  /** How many items were dropped since the last call, because more waited than the channel keeps. */
  readonly takeDropped?: () => number
}

/** The shortest delivery that causes a rest, in nanoseconds. A shorter one has few sockets. */
const leastDelivery = 100_000n
/** The longest rest, in milliseconds. A burst adds at most this to the latency of other channels. */
const mostRest = 20

/** No rest while more notifications than this wait. At the largest payload, 8 kB, they take 32 MB. */
const mostWaiting = 4096
/** How often a rest checks the number that waits, in milliseconds. */
const lookEvery = 5

export class Pump<in Item> {
  /** Milliseconds between two deliveries while few notifications wait. */
  readonly #window: number
  /** Channels with waiting notifications, in order of arrival. */
  #touched: Array<Pumped<never>> = []
  #waiting = 0
  /** Resumes the fiber; `undefined` while it delivers or rests. */
  #wake: (() => void) | undefined

  constructor(window: number) {
    this.#window = window
  }

  /** The number of notifications that wait. */
  get waiting(): number {
    return this.#waiting
  }

  /** Adds an item, such as a notification, to a channel. The fiber delivers it in a later step. */
  push(channel: Pumped<Item>, item: Item): void {
    if (channel.push(item)) this.#touched.push(channel)
    this.#waiting++
    this.#wake?.()
  }

  /** Delivers for ever. */
  get run(): Effect.Effect<never> {
    return Effect.gen({ self: this }, function* () {
      const clock = yield* Clock.Clock
      while (true) {
        if (this.#touched.length === 0) yield* this.#arrival
        // Joins the notifications of one turn of the loop.
        yield* Effect.yieldNow
        const touched = this.#touched
        this.#touched = []
        this.#waiting = 0
        const now = clock.currentTimeMillisUnsafe()
        let before = clock.monotonicTimeNanosUnsafe()
        let longest = 0n
        for (const channel of touched) {
          const missing = channel.deliver(now)
          // Only the slowest channel counts: batches join the notifications of one channel, so many
          // channels with one socket each gain nothing by a rest.
          const after = clock.monotonicTimeNanosUnsafe()
          if (after - before > longest) longest = after - before
          before = after
          const dropped = channel.takeDropped?.() ?? 0
          if (dropped > 0) yield* Metric.update(metrics.volatileDropped, dropped)
          if (missing.length > 0) yield* channel.told.tell(channel.name, missing)
        }
        // Timers have a resolution of 1 ms.
        const half = Math.min(Math.ceil(Number(longest) / 2e6), mostRest)
        const rest = Math.ceil(Math.max(this.#window, longest < leastDelivery ? 0 : half))
        for (let left = rest; left >= 1 && this.#waiting <= mostWaiting;) {
          yield* Effect.sleep(Math.min(left, lookEvery))
          left = rest - Number(clock.monotonicTimeNanosUnsafe() - before) / 1e6
        }
      }
    })
  }

  /** Completes when a notification arrives. */
  get #arrival(): Effect.Effect<void> {
    return Effect.callback<void>((resume) => {
      // It may have arrived before this step.
      if (this.#touched.length > 0) return resume(Effect.void)
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
