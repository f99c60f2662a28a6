import { describe, expect, it } from "@effect/vitest"
import { Budget, eventBytes } from "../../../../src/server/internal/memory.ts"
import { limits, Recent } from "../../../../src/server/internal/outbox/recent.ts"
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
  cursorAt: () => `after ${number}`
})

const remembering = (...batches: ReadonlyArray<DurableBatch>) => {
  const budget = new Budget(limits)
  const recent = new Recent<DurableBatch>(budget)
  for (const one of batches) recent.push(one, 0)
  return { budget, recent }
}

const ticks = (batches: ReadonlyArray<DurableBatch> | undefined) => batches?.map(({ tick }) => tick)

describe("Recent", () => {
  it("Recent returns the batches after the batch at which a reader stands", () => {
    const { recent } = remembering(batch(1), batch(2), batch(3))
    expect([1, 2, 3].map((number) => ticks(recent.after(`after ${number}`, 0)))).toEqual([
      [2, 3],
      [3],
      []
    ])
  })

  it("Recent returns nothing for a position that is no batch it remembers", () => {
    const { recent } = remembering(batch(1))
    expect(recent.after("after 0", 0)).toBeUndefined()
    expect(recent.after("after 0, or later", 0)).toBeUndefined()
  })

  it("Recent remembers 256 events", () => {
    const { recent } = remembering(batch(1, 100), batch(2, 100), batch(3, 56), batch(4))
    expect(recent.after("after 1", 0)).toBeUndefined()
    expect(ticks(recent.after("after 2", 0))).toEqual([3, 4])
  })

  it("Recent remembers batches for 2 minutes", () => {
    const { recent } = remembering(batch(1))
    recent.push(batch(2), 1000)
    expect(ticks(recent.after("after 1", 120_000))).toEqual([2])
    expect(recent.after("after 1", 120_001)).toBeUndefined()
    expect(ticks(recent.after("after 2", 120_001))).toEqual([])
  })

  it("Recent counts texts, cursors and an overhead per event and batch, and returns them when it clears", () => {
    const { budget, recent } = remembering(batch(1, 2, "12345"))
    const first = budget.used
    expect(first).toBeGreaterThan(10 + 2 * eventBytes + "after 0, or later".length)
    budget.sweep(120_001)
    expect(budget.used).toBe(0)
    recent.push(batch(2, 3, "12345"), 120_001)
    expect(budget.used).toBe(first + 5 + eventBytes)
    recent.clear()
    expect(budget.used).toBe(0)
    expect(recent.after("after 2", 120_001)).toBeUndefined()
  })

  it("Recent keeps a quiet channel's batches while a busy channel fills the 64 MiB they share", () => {
    const { budget, recent: quiet } = remembering(batch(1))
    const busy = new Recent<DurableBatch>(budget)
    const text = "x".repeat(1024 * 1024)
    for (let number = 1; number <= 100; number++) busy.push(batch(number, 1, text), 0)
    expect(budget.used).toBeLessThanOrEqual(64 * 1024 * 1024)
    quiet.push(batch(2), 0)
    expect(ticks(quiet.after("after 1", 0))).toEqual([2])
    expect(busy.after("after 30", 0)).toBeUndefined()
    expect(busy.after("after 60", 0)).toHaveLength(40)
  })
})
