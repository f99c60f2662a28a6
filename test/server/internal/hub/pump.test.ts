import { describe, expect, it } from "@effect/vitest"
import { Clock, Effect, Schema } from "effect"
import { TestClock } from "effect/testing"
import * as Channel from "../../../../src/Channel.ts"
import { LiveChannel } from "../../../../src/server/internal/hub/liveChannel.ts"
import * as Pump from "../../../../src/server/internal/hub/pump.ts"
import { Told } from "../../../../src/server/internal/hub/told.ts"
import { Budget } from "../../../../src/server/internal/ring.ts"

/**
 * A pump over a channel whose deliveries take so long, and others that take no time; `delivered` is what
 * each of them held.
 */
const pumping = (options: { readonly millis?: number; readonly window?: number }) =>
  Effect.gen(function* () {
    const base = yield* Clock.Clock
    let spent = 0n
    const clock: Clock.Clock = {
      ...base,
      monotonicTimeNanosUnsafe: () => base.monotonicTimeNanosUnsafe() + spent
    }
    const budget = new Budget({ events: 256, maxAge: 120_000, bytes: 1_000_000 })
    const delivered: Array<ReadonlyArray<unknown>> = []
    const opened = (name: string, millis = 0) => {
      const channel = new LiveChannel(name, budget, new Told())
      channel.view(Channel.make(name, Schema.Int)).subscribe({
        offer: ({ events, gap }) => {
          delivered.push(gap === undefined ? events.map(({ payload }) => payload) : [gap])
          spent += BigInt(Math.round(millis * 1_000_000))
        }
      })
      return channel
    }
    const channel = opened("orders", options.millis)
    const pump = new Pump.Pump(options.window ?? 0)
    yield* pump.run.pipe(
      Effect.provideService(Clock.Clock, clock),
      Effect.forkScoped({ startImmediately: true })
    )
    const arrive = (...payloads: ReadonlyArray<string>) =>
      Effect.gen(function* () {
        for (const payload of payloads) pump.push(channel, payload)
        yield* TestClock.adjust(0)
      })
    /** On two channels that take no time. */
    const arriveBeside = (payload: string) => {
      for (const name of ["bids", "asks"]) pump.push(opened(name), payload)
    }
    return { arrive, arriveBeside, pump, channel, delivered }
  })

describe("Pump", () => {
  it.effect("delivers what arrived together in one batch, and what comes later at once", () =>
    Effect.gen(function* () {
      const { arrive, delivered } = yield* pumping({})
      yield* arrive("1", "2")
      yield* arrive("3")
      expect(delivered).toEqual([[1, 2], [3]])
    })
  )

  it.effect("rests for half the time a delivery took, and joins what comes meanwhile", () =>
    Effect.gen(function* () {
      const { arrive, delivered } = yield* pumping({ millis: 10 })
      yield* arrive("1")
      yield* arrive("2")
      yield* TestClock.adjust(4)
      yield* arrive("3")
      expect(delivered).toEqual([[1]])
      yield* TestClock.adjust(1)
      expect(delivered).toEqual([[1], [2, 3]])
    })
  )

  it.effect("rests for a whole millisecond at least, and not after a delivery to a few", () =>
    Effect.gen(function* () {
      const some = yield* pumping({ millis: 0.2 })
      yield* some.arrive("1")
      yield* some.arrive("2")
      expect(some.delivered).toEqual([[1]])
      yield* TestClock.adjust(1)
      expect(some.delivered).toEqual([[1], [2]])
      const few = yield* pumping({ millis: 0.09 })
      yield* few.arrive("1")
      yield* few.arrive("2")
      expect(few.delivered).toEqual([[1], [2]])
    })
  )

  it.effect("rests for the slowest channel's sake, however many quick ones are beside it", () =>
    Effect.gen(function* () {
      const { arrive, arriveBeside, delivered } = yield* pumping({ millis: 10 })
      arriveBeside("1")
      yield* arrive("1")
      yield* arrive("2")
      yield* TestClock.adjust(4)
      expect(delivered).toEqual([[1], [1], [1]])
      yield* TestClock.adjust(1)
      expect(delivered).toEqual([[1], [1], [1], [2]])
      const quick = yield* pumping({ millis: 0.09 })
      quick.arriveBeside("1")
      yield* quick.arrive("1")
      yield* quick.arrive("2")
      // No channel alone took long.
      expect(quick.delivered).toEqual([[1], [1], [1], [2]])
    })
  )

  it.effect("rests for 20 ms at most", () =>
    Effect.gen(function* () {
      const { arrive, delivered } = yield* pumping({ millis: 500 })
      yield* arrive("1")
      yield* arrive("2")
      yield* TestClock.adjust(20)
      expect(delivered).toEqual([[1], [2]])
    })
  )

  it.effect("waits for the batch window between two deliveries, never before the first", () =>
    Effect.gen(function* () {
      const { arrive, delivered } = yield* pumping({ window: 50 })
      yield* arrive("1")
      expect(delivered).toEqual([[1]])
      yield* arrive("2")
      yield* TestClock.adjust(49)
      yield* arrive("3")
      expect(delivered).toEqual([[1]])
      yield* TestClock.adjust(1)
      expect(delivered).toEqual([[1], [2, 3]])
    })
  )

  it.effect("cuts a rest short where more than 4,096 wait, and no other", () =>
    Effect.gen(function* () {
      const { arrive, delivered, pump } = yield* pumping({ window: 1000 })
      const many = (count: number) => Array.from({ length: count }, (_, index) => `${index}`)
      yield* arrive("1")
      yield* arrive(...many(4096))
      yield* TestClock.adjust(999)
      expect([delivered.length, pump.waiting]).toEqual([1, 4096])
      yield* TestClock.adjust(1)
      yield* arrive(...many(4097))
      yield* TestClock.adjust(5)
      expect(pump.waiting).toBe(0)
      // Each in its own order, in frames of 256.
      expect(delivered.flat()).toEqual([1, ...many(4096), ...many(4097)].map(Number))
    })
  )

  it.effect("drops what waits, and what comes, for a channel that was closed, and goes on", () =>
    Effect.gen(function* () {
      const { arrive, arriveBeside, channel, delivered, pump } = yield* pumping({})
      pump.push(channel, "1")
      channel.close()
      yield* arrive("2")
      expect(delivered).toEqual([])
      arriveBeside("3")
      yield* TestClock.adjust(0)
      expect(delivered).toEqual([[3], [3]])
    })
  )
})
