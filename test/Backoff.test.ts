import { describe, expect, it } from "@effect/vitest"
import { Effect, Fiber, Random, Ref } from "effect"
import { TestClock } from "effect/testing"
import * as Backoff from "../src/Backoff.ts"

/** A random source that always returns the same number, from 0 to just below 1. */
const always = (value: number) =>
  Effect.provideService(Random.Random, {
    nextDoubleUnsafe: () => value,
    nextIntUnsafe: () => {
      throw new Error("a backoff has no use for integers")
    }
  })

const highest = 1 - Number.EPSILON

/** The delays of `count` failures in a row. */
const delays = (policy: Backoff.Policy, count: number) =>
  Effect.flatMap(Backoff.make(policy), ({ delay }) => Effect.replicateEffect(delay(0), count))

const ceilings = (policy: Backoff.Policy, count: number) =>
  Array.from({ length: count }, (_, index) => Backoff.ceiling(policy, index + 1))

const policies = [
  {
    name: "client",
    policy: Backoff.client,
    expected: [2000, 250, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]
  },
  {
    name: "link",
    policy: Backoff.link,
    expected: [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000, 10_000]
  }
]

describe("Backoff", () => {
  it.each(policies)("the ceilings of the $name double up to the cap", ({ expected, policy }) => {
    expect(ceilings(policy, expected.length)).toEqual(expected)
  })

  it.each(policies)("the ceiling of the $name never exceeds the cap", ({ expected, policy }) => {
    expect([1000, 1e6, Number.MAX_SAFE_INTEGER].map((n) => Backoff.ceiling(policy, n))).toEqual(
      Array.from({ length: 3 }, () => expected.at(-1))
    )
  })

  it("the cap limits the first delay too, and a policy takes durations as text", () => {
    const policy = {
      initial: "1 second",
      cap: "3 seconds",
      first: "1 minute",
      resetAfter: 0
    } as const
    expect(ceilings(policy, 5)).toEqual([3000, 1000, 2000, 3000, 3000])
  })

  it.effect.each(policies)("the delays of the $name lie between 0 and the ceiling", (each) =>
    Effect.gen(function* () {
      const { expected, policy } = each
      const count = expected.length
      expect(yield* delays(policy, count).pipe(always(0))).toEqual(expected.map(() => 0))
      expect(yield* delays(policy, count).pipe(always(0.5))).toEqual(expected.map((n) => n / 2))
      const most = yield* delays(policy, count).pipe(always(highest))
      expect(most.map((delay, index) => delay <= expected[index]!)).toEqual(
        expected.map(() => true)
      )
      expect(most.map(Math.round)).toEqual(expected)
    })
  )

  it.effect("1,000 clients that lose one server spread their first retry over 2 s", () =>
    Effect.gen(function* () {
      const first = yield* Effect.replicateEffect(delays(Backoff.client, 1), 1000).pipe(
        Random.withSeed("spread")
      )
      const perTenth = new Map<number, number>()
      for (const delay of first.flat()) {
        const tenth = Math.floor(delay / 200)
        perTenth.set(tenth, (perTenth.get(tenth) ?? 0) + 1)
      }
      expect([...perTenth.keys()].toSorted((a, b) => a - b)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
      const fullest = Math.max(...perTenth.values())
      expect(fullest, `${fullest} of 1000 within the same 200 ms`).toBeLessThan(150)
    })
  )

  it.effect("returns the same delays for the same seed, and others for another seed", () =>
    Effect.gen(function* () {
      const twenty = delays(Backoff.client, 20)
      const one = yield* twenty.pipe(Random.withSeed("a"))
      expect(yield* twenty.pipe(Random.withSeed("a"))).toEqual(one)
      expect(yield* twenty.pipe(Random.withSeed("b"))).not.toEqual(one)
    })
  )

  it.effect("starts again at the first delay after 10 s of health, not before", () =>
    Effect.gen(function* () {
      const { delay } = yield* Backoff.make(Backoff.client)
      const seen: Array<number> = []
      for (const healthy of [0, 0, 0, 9999, 9999, 10_000, 0, 0, 3_600_000, 10_000]) {
        seen.push(yield* delay(healthy))
      }
      expect(seen.map((half) => half * 2)).toEqual([
        2000, 250, 500, 1000, 2000, 2000, 250, 500, 2000, 2000
      ])
    }).pipe(always(0.5))
  )

  const losses = [
    // After 30 s of health the next attempt is immediate. After less health the backoff goes on.
    { healthy: [3_600_000, 0, 0, 0], delays: [0, 50, 100, 200] },
    { healthy: [30_000, 30_000, 29_999, 0], delays: [0, 0, 50, 100] },
    { healthy: [29_999, 0, 0, 3_600_000, 0], delays: [50, 100, 200, 0, 50] }
  ]
  it.effect.each(losses)("waits $delays ms on the link after $healthy ms of health", (each) =>
    Effect.gen(function* () {
      const { delay } = yield* Backoff.make(Backoff.link)
      expect(yield* Effect.forEach(each.healthy, delay)).toEqual(each.delays)
    }).pipe(always(0.5))
  )

  it.effect("counts the failures of each user of a policy separately", () =>
    Effect.gen(function* () {
      const one = yield* Backoff.make(Backoff.link)
      const other = yield* Backoff.make(Backoff.link)
      yield* Effect.replicateEffect(one.delay(0), 5)
      expect([yield* one.delay(0), yield* other.delay(0)]).toEqual([1600, 50])
    }).pipe(always(0.5))
  )

  it.effect("returns a delay after 5,000 failures", () =>
    Effect.gen(function* () {
      const many = yield* delays(Backoff.link, 5000)
      expect(many.slice(7)).toEqual(Array.from({ length: 4993 }, () => 5000))
    }).pipe(always(0.5))
  )

  it.effect("waits as a Schedule for the same delays", () =>
    Effect.gen(function* () {
      const tries = yield* Ref.make(0)
      const fiber = yield* Ref.update(tries, (n) => n + 1).pipe(
        Effect.andThen(Effect.fail("down")),
        Effect.retry(Backoff.schedule(Backoff.link)),
        Effect.forkChild
      )
      const seen: Array<number> = []
      // 50, 100 and 200 ms are half of each ceiling.
      for (const millis of [0, 49, 1, 99, 1, 199, 1]) {
        yield* TestClock.adjust(millis)
        seen.push(yield* Ref.get(tries))
      }
      expect(seen).toEqual([1, 1, 2, 2, 3, 3, 4])
      yield* TestClock.adjust("1 hour")
      // 400, 800, 1600 and 3200 ms, then one attempt every 5 s.
      expect(yield* Ref.get(tries)).toBe(8 + Math.floor((3_600_000 - 6000) / 5000))
      yield* Fiber.interrupt(fiber)
    }).pipe(always(0.5))
  )
})
