import { describe, expect, it } from "@effect/vitest"
import { Recent } from "../../../src/server/internal/recent.ts"
import type { DurableBatch } from "../../../src/server/internal/tail.ts"

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
  }))
})

const remembering = (...batches: ReadonlyArray<DurableBatch>) => {
  const held = { text: 0 }
  const recent = new Recent<DurableBatch>(held)
  for (const one of batches) recent.push(one, 0)
  return { held, recent }
}

const ticks = (batches: ReadonlyArray<DurableBatch> | undefined) => batches?.map(({ tick }) => tick)

describe("Recent", () => {
  it("gives what follows the batch at which somebody stands", () => {
    const { recent } = remembering(batch(1), batch(2), batch(3))
    expect([1, 2, 3].map((number) => ticks(recent.after(`after ${number}`, 0)))).toEqual([
      [2, 3],
      [3],
      []
    ])
  })

  it("does not know any other position, also not the one before its first batch", () => {
    const { recent } = remembering(batch(1))
    expect(recent.after("after 0", 0)).toBeUndefined()
    expect(recent.after("after 0, or later", 0)).toBeUndefined()
  })

  it("remembers 256 events", () => {
    const { recent } = remembering(batch(1, 100), batch(2, 100), batch(3, 56), batch(4))
    expect(recent.after("after 1", 0)).toBeUndefined()
    expect(ticks(recent.after("after 2", 0))).toEqual([3, 4])
  })

  it("remembers for 2 minutes", () => {
    const { recent } = remembering(batch(1))
    recent.push(batch(2), 1000)
    expect(ticks(recent.after("after 1", 120_000))).toEqual([2])
    expect(recent.after("after 1", 120_001)).toBeUndefined()
    expect(ticks(recent.after("after 2", 120_001))).toEqual([])
  })

  it("counts what all channels hold, and gives it back", () => {
    const { held, recent } = remembering(batch(1, 2, "12345"), batch(2, 1, "67"))
    expect(held.text).toBe(12)
    recent.push(batch(3), 120_001)
    expect(held.text).toBe(1)
    recent.clear()
    expect(held.text).toBe(0)
    expect(recent.after("after 3", 0)).toBeUndefined()
  })

  it("forgets its own when all channels together hold too much", () => {
    const { held, recent } = remembering(batch(1))
    held.text = 64 * 1024 * 1024
    recent.push(batch(2), 0)
    expect(recent.after("after 1", 0)).toBeUndefined()
    expect(held.text).toBeLessThanOrEqual(64 * 1024 * 1024)
  })
})
