import { describe, expect, it } from "@effect/vitest"
import { Budget, eventBytes } from "../../../../src/server/internal/ring.ts"
import { LiveRing } from "../../../../src/server/internal/hub/liveRing.ts"

const limits = { events: 3, maxAge: 1000, bytes: 1000 }
/** What one notification of one letter counts. */
const one = 1 + eventBytes
const filled = (count: number, budget = new Budget(limits)) => {
  const ring = new LiveRing(budget)
  for (let seq = 1; seq <= count; seq++) ring.push({ seq, at: 0, text: "x" })
  return { ring, budget }
}
const seqs = (entries: ReadonlyArray<{ readonly seq: number }> | undefined) =>
  entries?.map(({ seq }) => seq)

describe("LiveRing", () => {
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

  it("counts its texts and something for each of them, and gives it back", () => {
    const { budget, ring } = filled(2)
    expect(budget.used).toBe(2 * one)
    ring.push({ seq: 3, at: 0, text: "x".repeat(100) })
    expect(budget.used).toBe(3 * one + 99)
    ring.clear()
    expect(budget.used).toBe(0)
    expect(ring.after(2, 3, 0)).toBeUndefined()
  })

  it("keeps what it has while another one fills the budget, also when it pushes itself", () => {
    const budget = new Budget({ events: 100, maxAge: 1000, bytes: 50 * one })
    const { ring: busy } = filled(100, budget)
    const { ring: quiet } = filled(10, budget)
    for (let seq = 101; seq <= 1000; seq++) busy.push({ seq, at: 0, text: "x" })
    expect(seqs(quiet.after(0, 10, 0))).toHaveLength(10)
    expect(busy.after(900, 1000, 0)).toBeUndefined()
    expect(seqs(busy.after(970, 1000, 0))).toHaveLength(30)
    expect(budget.used).toBeLessThanOrEqual(50 * one)
  })

  it("keeps its count over many pushes", () => {
    const { budget, ring } = filled(10_000)
    expect(seqs(ring.after(9997, 10_000, 0))).toEqual([9998, 9999, 10_000])
    expect(budget.used).toBe(3 * one)
  })
})
