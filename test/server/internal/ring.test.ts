import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { TestClock } from "effect/testing"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { Budget, Ring, type RingLimits, sweeping } from "../../../src/server/internal/ring.ts"

interface Entry {
  readonly at: number
  readonly bytes: number
}

const weights = { eventsOf: () => 1, bytesOf: ({ bytes }: Entry) => bytes }

const budgetOf = (limits: Partial<RingLimits>) =>
  new Budget({ events: 1000, maxAge: 1000, bytes: 1600, ...limits })

/** A ring with so many entries of 10 bytes. */
const filled = (budget: Budget, count: number, at = 0) => {
  const ring = new Ring<Entry>(budget, weights)
  for (let n = 0; n < count; n++) ring.push({ at, bytes: 10 })
  return ring
}

describe("The budget of all memories", () => {
  it("the largest memory gives up its oldest entries, whichever memory is pushed to", () => {
    const budget = budgetOf({})
    const large = filled(budget, 140)
    const small = filled(budget, 20)
    expect([large.bytes, small.bytes]).toEqual([1400, 200])
    small.push({ at: 0, bytes: 10 })
    expect([large.bytes, small.bytes]).toEqual([1290, 210])
    for (let n = 0; n < 10_000; n++) large.push({ at: 0, bytes: 10 })
    expect(small.bytes).toBe(210)
    expect(large.bytes).toBeGreaterThan(1280)
    expect(budget.used).toBeLessThanOrEqual(1600)
  })

  it("the largest memories shrink to equal sizes, and at least a sixteenth is freed at once", () => {
    const budget = budgetOf({})
    const memories = [60, 50, 40, 10].map((count) => filled(budget, count))
    expect(budget.used).toBe(1600)
    memories[3]!.push({ at: 0, bytes: 10 })
    expect(memories.map(({ bytes }) => bytes)).toEqual([490, 490, 400, 110])
    expect(budget.used).toBe(1490)
  })

  it("the budget holds for entries of any size, and a memory shrinks only while none is larger", () => {
    let forgot = 0
    const faults: Array<string> = []
    for (let round = 1; round <= 50; round++) {
      const budget = budgetOf({ bytes: 100 * round })
      const memories = Array.from({ length: 12 }, () => filled(budget, 0))
      for (let n = 0; n < 1000; n++) {
        const pusher = memories[(n * n * round) % 12]!
        const bytes = 1 + ((n * 7) % 30)
        const before = memories.map((one) => one.bytes + (one === pusher ? bytes : 0))
        pusher.push({ at: 0, bytes })
        const after = memories.map((one) => one.bytes)
        const losers = after.filter((held, index) => held < before[index]!)
        forgot += losers.length
        // A memory drops whole entries of at most 30 bytes.
        if (losers.some((held) => held + 30 <= Math.max(...after))) {
          faults.push(`round ${round}: ${before} became ${after}`)
        }
        expect(budget.used).toBeLessThanOrEqual(100 * round)
      }
      expect(budget.used).toBe(memories.reduce((sum, one) => sum + one.bytes, 0))
    }
    expect(faults).toEqual([])
    expect(forgot).toBeGreaterThan(1000)
  })

  it("a memory drops an entry larger than the budget, and every entry of a budget of 0", () => {
    const budget = budgetOf({})
    const other = filled(budget, 1)
    const ring = filled(budget, 1)
    ring.push({ at: 0, bytes: 2000 })
    expect([ring.bytes, other.bytes, budget.used]).toEqual([0, 10, 10])
    expect(filled(budgetOf({ bytes: 0 }), 3).bytes).toBe(0)
  })

  it("a cleared memory returns its bytes, and the budget tracks only memories that hold entries", () => {
    const budget = budgetOf({})
    const ring = filled(budget, 3)
    filled(budget, 0)
    expect([...budget.holders]).toEqual([ring])
    ring.clear()
    expect([budget.used, budget.holders.size]).toEqual([0, 0])
    ring.push({ at: 0, bytes: 10 })
    expect([budget.used, budget.holders.size]).toEqual([10, 1])
  })

  it.effect("the clock sweeps entries older than maxAge, although nothing is pushed any more", () =>
    Effect.gen(function* () {
      const budget = budgetOf({ maxAge: 20_000 })
      yield* sweeping(budget)
      filled(budget, 5)
      filled(budget, 5, 10_000)
      yield* TestClock.adjust("20 seconds")
      expect(budget.used).toBe(100)
      yield* TestClock.adjust("5 seconds")
      expect(budget.used).toBe(50)
      yield* TestClock.adjust("10 seconds")
      expect([budget.used, budget.holders.size]).toEqual([0, 0])
    })
  )
})

describe("a ring", () => {
  it("a memory releases an entry to the garbage collector as soon as it drops the entry", async () => {
    const budget = budgetOf({ maxAge: 10 })
    const ring = new Ring<{ readonly at: number }>(budget, {
      eventsOf: () => 1,
      bytesOf: () => 10
    })
    let freed = 0
    const registry = new FinalizationRegistry(() => freed++)
    for (let n = 0; n < 40; n++) {
      const entry = { at: n < 30 ? 0 : 100 }
      registry.register(entry, n)
      ring.push(entry)
    }
    ring.expire(100)
    expect(ring.bytes).toBe(100)
    setFlagsFromString("--expose-gc")
    const collect = runInNewContext("gc") as () => void
    await expect
      .poll(() => {
        collect()
        return freed
      })
      .toBe(30)
    expect(ring.entries).toHaveLength(10)
  })
})
