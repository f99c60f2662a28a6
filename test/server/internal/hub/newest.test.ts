import { describe, expect, it } from "@effect/vitest"
import { Newest } from "../../../../src/server/internal/hub/newest.ts"

const of = (keys: number, bytes = 1000) => {
  const newest = new Newest<{ readonly n: number; readonly bytes: number }>({ keys, bytes })
  let n = 0
  return {
    newest,
    put: (...keys: ReadonlyArray<string>) => {
      for (const key of keys) newest.put(key, { n: ++n, bytes: 10 })
    },
    all: () => [...newest.entries()].map(([key, { n }]) => `${key}${n}`)
  }
}

describe("Newest", () => {
  it("keeps the newest value of each key, in the order of the values", () => {
    const { all, newest, put } = of(10)
    put("a", "b", "a", "c", "b")
    expect(all()).toEqual(["a3", "c4", "b5"])
    expect(newest.bytes).toBe(33)
  })

  it("drops the oldest key at the most keys, and at the most bytes", () => {
    const few = of(2)
    few.put("a", "b", "a", "c")
    expect(few.all()).toEqual(["a3", "c4"])
    const small = of(10, 25)
    small.put("a", "b", "c")
    expect(small.all()).toEqual(["b2", "c3"])
    small.newest.put("d", { n: 4, bytes: 30 })
    expect([small.all(), small.newest.bytes]).toEqual([[], 0])
  })

  it("may be emptied while it is read", () => {
    const { all, newest, put } = of(10)
    put("a", "b", "c")
    for (const [key] of newest.entries()) if (key !== "b") newest.delete(key)
    newest.delete("unknown")
    expect([all(), newest.bytes]).toEqual([["b2"], 11])
  })
})
