import { describe, expect, it } from "@effect/vitest"
import { Budget, eventBytes } from "../../../../src/server/internal/ring.ts"
import { LiveRing } from "../../../../src/server/internal/hub/liveRing.ts"

const limits = { events: 3, maxAge: 1000, bytes: 1000 }
/** The counted bytes of a notification of one letter. */
const one = 1 + eventBytes
const filled = (count: number, budget = new Budget(limits)) => {
  const ring = new LiveRing(budget)
  for (let seq = 1; seq <= count; seq++) ring.push({ seq, at: 0, text: "x" })
  return { ring, budget }
}
const seqs = (entries: ReadonlyArray<{ readonly seq: number }> | undefined) =>
  entries?.map(({ seq }) => seq)

describe("LiveRing", () => {
  it("a ring returns the notifications after a position, oldest first", () => {
    const { ring } = filled(3)
    expect([0, 1, 2, 3].map((seq) => seqs(ring.after(seq, 3, 0)))).toEqual([
      [1, 2, 3],
      [2, 3],
      [3],
      []
    ])
  })

  it("a ring that dropped a notification after a position returns nothing for that position", () => {
    const { ring } = filled(5)
    expect(ring.after(1, 5, 0)).toBeUndefined()
    expect(seqs(ring.after(2, 5, 0))).toEqual([3, 4, 5])
  })

  it("a ring returns nothing for a position in the future", () => {
    expect(filled(2).ring.after(3, 2, 0)).toBeUndefined()
  })

  it("a ring drops notifications older than maxAge", () => {
    const { ring } = filled(3)
    expect(seqs(ring.after(0, 3, 1000))).toEqual([1, 2, 3])
    expect(ring.after(0, 3, 1001)).toBeUndefined()
    expect(ring.after(3, 3, 1001)).toEqual([])
  })

  it("a ring counts its texts and an overhead for each, and clear frees both", () => {
    const { budget, ring } = filled(2)
    expect(budget.used).toBe(2 * one)
    ring.push({ seq: 3, at: 0, text: "x".repeat(100) })
    expect(budget.used).toBe(3 * one + 99)
    ring.clear()
    expect(budget.used).toBe(0)
    expect(ring.after(2, 3, 0)).toBeUndefined()
  })

  it("a quiet ring keeps its notifications while a busy ring fills the shared budget", () => {
    const budget = new Budget({ events: 100, maxAge: 1000, bytes: 50 * one })
    const { ring: busy } = filled(100, budget)
    const { ring: quiet } = filled(10, budget)
    for (let seq = 101; seq <= 1000; seq++) busy.push({ seq, at: 0, text: "x" })
    expect(seqs(quiet.after(0, 10, 0))).toHaveLength(10)
    expect(busy.after(900, 1000, 0)).toBeUndefined()
    expect(seqs(busy.after(970, 1000, 0))).toHaveLength(30)
    expect(budget.used).toBeLessThanOrEqual(50 * one)
  })

  it("a ring holds no more than its 3 events after 10,000 pushes", () => {
    const { budget, ring } = filled(10_000)
    expect(seqs(ring.after(9997, 10_000, 0))).toEqual([9998, 9999, 10_000])
    expect(budget.used).toBe(3 * one)
  })
})
