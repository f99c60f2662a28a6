import { describe, expect, it } from "@effect/vitest"
import { Budget, Ring } from "../../../src/server/internal/ring.ts"

const limits = { events: 3, maxAge: 1000, bytes: 100 }
const filled = (count: number, budget = new Budget(limits)) => {
  const ring = new Ring(budget)
  for (let seq = 1; seq <= count; seq++) ring.push({ seq, at: 0, text: "x" })
  return { ring, budget }
}
const seqs = (entries: ReadonlyArray<{ readonly seq: number }> | undefined) =>
  entries?.map(({ seq }) => seq)

describe("Ring", () => {
  it("gives what follows a position, oldest first", () => {
    const { ring } = filled(3)
    expect([0, 1, 2, 3].map((seq) => seqs(ring.after(seq, 3, 0)))).toEqual([
      [1, 2, 3],
      [2, 3],
      [3],
      []
    ])
  })

  it("gives nothing, rather than a part, when some of it is forgotten", () => {
    const { ring } = filled(5)
    expect(ring.after(1, 5, 0)).toBeUndefined()
    expect(seqs(ring.after(2, 5, 0))).toEqual([3, 4, 5])
  })

  it("refuses a position in the future", () => {
    expect(filled(2).ring.after(3, 2, 0)).toBeUndefined()
  })

  it("forgets what is older than maxAge", () => {
    const { ring } = filled(3)
    expect(seqs(ring.after(0, 3, 1000))).toEqual([1, 2, 3])
    expect(ring.after(0, 3, 1001)).toBeUndefined()
    expect(ring.after(3, 3, 1001)).toEqual([])
  })

  it("counts bytes over all rings, and the one that exceeds them pays", () => {
    const budget = new Budget({ events: 100, maxAge: 1000, bytes: 10 })
    const quiet = filled(2, budget).ring
    const busy = filled(20, budget).ring
    expect(budget.used).toBe(10)
    expect(seqs(quiet.after(0, 2, 0))).toEqual([1, 2])
    expect(seqs(busy.after(12, 20, 0))).toHaveLength(8)
    busy.clear()
    quiet.clear()
    expect(budget.used).toBe(0)
  })

  it("keeps its count over many pushes", () => {
    const { budget, ring } = filled(10_000)
    expect(seqs(ring.after(9997, 10_000, 0))).toEqual([9998, 9999, 10_000])
    expect(budget.used).toBe(3)
  })
})
