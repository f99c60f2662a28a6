import { describe, expect, it } from "@effect/vitest"
import { Budget, eventBytes } from "../../../../src/server/internal/ring.ts"
import { DurableRing } from "../../../../src/server/internal/outbox/durableRing.ts"
import * as Settings from "../../../../src/server/internal/outbox/readerOptions.ts"
import type { DurableBatch } from "../../../../src/server/internal/outbox/tail.ts"

const batch = (number: number, events = 1, text = "x"): DurableBatch => ({
  _tag: "Batch",
  channel: "room",
  from: `after ${number - 1}, or later`,
  cursor: `after ${number}`,
  tick: number,
  events: Array.from({ length: events }, (_, n) => ({
    id: `${number}.${n}`,
    tx: "1",
    at: 0,
    text
  })),
  isMidway: false,
  cursorAt: () => `after ${number}`
})

const remembering = (...batches: ReadonlyArray<DurableBatch>) => {
  const budget = new Budget(Settings.shared({}).recent)
  const ring = new DurableRing<DurableBatch>(budget)
  for (const one of batches) ring.push(one, 0)
  return { budget, ring }
}

const ticks = (batches: ReadonlyArray<DurableBatch> | undefined) => batches?.map(({ tick }) => tick)

describe("DurableRing", () => {
  it("Recent returns the batches after the batch at which a reader stands", () => {
    const { ring } = remembering(batch(1), batch(2), batch(3))
    expect([1, 2, 3].map((number) => ticks(ring.after(`after ${number}`, 0)))).toEqual([
      [2, 3],
      [3],
      []
    ])
  })

  it("Recent returns nothing for a position that is no batch it remembers", () => {
    const { ring } = remembering(batch(1))
    expect(ring.after("after 0", 0)).toBeUndefined()
    expect(ring.after("after 0, or later", 0)).toBeUndefined()
  })

  it("Recent counts what a row is filtered by", () => {
    const match = "m".repeat(100)
    const one = batch(1)
    const plain = remembering(one).budget.used
    const { budget } = remembering({ ...one, events: [{ ...one.events[0]!, match }] })
    expect(budget.used).toBe(plain + 100)
  })

  it("Recent remembers 256 events", () => {
    const { ring } = remembering(batch(1, 100), batch(2, 100), batch(3, 56), batch(4))
    expect(ring.after("after 1", 0)).toBeUndefined()
    expect(ticks(ring.after("after 2", 0))).toEqual([3, 4])
  })

  it("Recent remembers batches for 2 minutes", () => {
    const { ring } = remembering(batch(1))
    ring.push(batch(2), 1000)
    expect(ticks(ring.after("after 1", 120_000))).toEqual([2])
    expect(ring.after("after 1", 120_001)).toBeUndefined()
    expect(ticks(ring.after("after 2", 120_001))).toEqual([])
  })

  it("Recent counts texts, cursors and an overhead per event and batch, and returns them when it clears", () => {
    const { budget, ring } = remembering(batch(1, 2, "12345"))
    const first = budget.used
    expect(first).toBeGreaterThan(10 + 2 * eventBytes + "after 0, or later".length)
    budget.sweep(120_001)
    expect(budget.used).toBe(0)
    ring.push(batch(2, 3, "12345"), 120_001)
    expect(budget.used).toBe(first + 5 + eventBytes)
    ring.clear()
    expect(budget.used).toBe(0)
    expect(ring.after("after 2", 120_001)).toBeUndefined()
  })

  it("Recent keeps a quiet channel's batches while a busy channel fills the 64 MiB they share", () => {
    const { budget, ring: quiet } = remembering(batch(1))
    const busy = new DurableRing<DurableBatch>(budget)
    const text = "x".repeat(1024 * 1024)
    for (let number = 1; number <= 100; number++) busy.push(batch(number, 1, text), 0)
    expect(budget.used).toBeLessThanOrEqual(64 * 1024 * 1024)
    quiet.push(batch(2), 0)
    expect(ticks(quiet.after("after 1", 0))).toEqual([2])
    expect(busy.after("after 30", 0)).toBeUndefined()
    expect(busy.after("after 60", 0)).toHaveLength(40)
  })
})
