import { describe, expect, it } from "@effect/vitest"
import { Clock, Effect, Fiber, Scheduler, Schema } from "effect"
import { TestClock } from "effect/testing"
import * as Channel from "../../../../src/Channel.ts"
import { LiveChannel } from "../../../../src/server/internal/hub/liveChannel.ts"
import * as Pump from "../../../../src/server/internal/hub/pump.ts"
import type { Heard } from "../../../../src/server/NotificationSource.ts"
import { Told } from "../../../../src/server/internal/hub/gapCounter.ts"
import { Budget } from "../../../../src/server/internal/ring.ts"
import { turns } from "../../../support/until.ts"

/**
 * A pump, one channel whose delivery takes `millis`, and other channels whose delivery takes no
 * time. `delivered` lists the payloads of each delivery.
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
    const pump = new Pump.Pump<Heard>(options.window ?? 0)
    yield* pump.run.pipe(
      Effect.provideService(Clock.Clock, clock),
      Effect.forkScoped({ startImmediately: true })
    )
    const arrive = (...payloads: ReadonlyArray<string>) =>
      Effect.gen(function* () {
        for (const payload of payloads) pump.push(channel, payload)
        yield* TestClock.adjust(0)
      })
    /** Pushes a payload to two channels whose delivery takes no time. */
    const arriveBeside = (payload: string) => {
      for (const name of ["bids", "asks"]) pump.push(opened(name), payload)
    }
    return { arrive, arriveBeside, pump, channel, delivered }
  })

describe("Pump", () => {
  it.effect("the pump delivers what arrives between its look and its wait", () =>
    Effect.gen(function* () {
      const budget = new Budget({ events: 256, maxAge: 120_000, bytes: 1_000_000 })
      for (let count = 0; count < 20; count++) {
        const channel = new LiveChannel("orders", budget, new Told())
        const delivered: Array<unknown> = []
        channel.view(Channel.make("orders", Schema.Int)).subscribe({
          offer: ({ events }) => void delivered.push(...events.map(({ payload }) => payload))
        })
        const pump = new Pump.Pump<Heard>(0)
        const running = yield* pump.run.pipe(
          // The fiber yields after each of its operations.
          Effect.provideService(Scheduler.MaxOpsBeforeYield, 3),
          Effect.forkChild({ startImmediately: true })
        )
        yield* turns(count)
        pump.push(channel, "1")
        yield* turns(20)
        expect(delivered, `after ${count} turns`).toEqual([1])
        yield* Fiber.interrupt(running)
      }
    })
  )

  it.effect("the pump delivers pushes of one turn in one batch, and a later push at once", () =>
    Effect.gen(function* () {
      const { arrive, delivered } = yield* pumping({})
      yield* arrive("1", "2")
      yield* arrive("3")
      expect(delivered).toEqual([[1, 2], [3]])
    })
  )

  it.effect("the pump rests for half of a delivery's time and batches what is pushed then", () =>
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

  it.effect("the pump rests for at least 1 ms, and not at all after a delivery under 0.1 ms", () =>
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

  it.effect("the pump rests for its slowest channel, however many quick channels it has", () =>
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
      // No single channel took long.
      expect(quick.delivered).toEqual([[1], [1], [1], [2]])
    })
  )

  it.effect("the pump rests for at most 20 ms, however long a delivery takes", () =>
    Effect.gen(function* () {
      const { arrive, delivered } = yield* pumping({ millis: 500 })
      yield* arrive("1")
      yield* arrive("2")
      yield* TestClock.adjust(20)
      expect(delivered).toEqual([[1], [2]])
    })
  )

  it.effect("the pump waits for batchWindow between two deliveries and not before the first", () =>
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

  it.effect("the pump ends its rest early when more than 4,096 notifications wait", () =>
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
      // In order, in frames of 256 events.
      expect(delivered.flat()).toEqual([1, ...many(4096), ...many(4097)].map(Number))
    })
  )

  it.effect("the pump drops notifications of a closed channel and delivers those of others", () =>
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
