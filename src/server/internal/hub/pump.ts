/**
 * Moves what the source tells to the open live channels: one fiber for all of them, which wakes once
 * for everything that arrived together.
 *
 * After a delivery it rests for half the time that the slowest channel took, in whole milliseconds. A
 * busy node therefore joins what comes meanwhile into larger batches, and writes less often instead of
 * falling behind; on a quiet one the rest is over before anything comes. A rest ends early where much
 * waits: while the node delivers it reads nothing, and PostgreSQL keeps what it cannot send.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import { lost, type Notification } from "../../NotificationSource.ts"
import type { LiveChannel } from "./liveChannel.ts"

export interface PumpOptions {
  readonly arrived: Queue.Dequeue<Notification>
  readonly channels: ReadonlyMap<string, LiveChannel>
  /** The shortest time between two deliveries where little waits, in milliseconds. */
  readonly window: number
  /** What a channel is told after its `lost`, so that it outlives the new epoch. */
  readonly afterLoss: (channel: string) => string | undefined
}

/** A channel whose delivery is shorter than this needs no rest, in nanoseconds: it has a few sockets. */
const leastDelivery = 100_000n
/** The longest rest, in milliseconds: what a burst may add to the latency of others. */
const mostRest = 20

/** No rest while more notifications than this wait: at 8 kB each, the most they have, 32 MB. */
const mostWaiting = 4096
/** How often a rest looks at how many wait, in milliseconds. */
const lookEvery = 5

export const run = ({ afterLoss, arrived, channels, window }: PumpOptions): Effect.Effect<never> =>
  Effect.gen(function* () {
    const clock = yield* Clock.Clock
    while (true) {
      const notifications = yield* Queue.takeAll(arrived)
      const touched: Array<LiveChannel> = []
      for (const { channel: name, payload } of notifications) {
        // Closed in the meantime: nobody is there to hear of it.
        const channel = channels.get(name)
        if (channel === undefined) continue
        if (channel.push(payload)) touched.push(channel)
        const notice = payload === lost ? afterLoss(name) : undefined
        if (notice !== undefined) channel.push(notice)
      }
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
      const rest = Math.ceil(Math.max(window, longest < leastDelivery ? 0 : half))
      for (let left = rest; left >= 1 && Queue.sizeUnsafe(arrived) <= mostWaiting;) {
        yield* Effect.sleep(Math.min(left, lookEvery))
        left = rest - Number(clock.monotonicTimeNanosUnsafe() - before) / 1e6
      }
    }
  })
