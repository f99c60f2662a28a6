import { describe, expect, it } from "@effect/vitest"
import { includes, judge, make, parseMatch } from "../../../src/server/internal/filter.ts"

describe("a filter", () => {
  it("has equal texts for equal conditions, in any order and form", () => {
    const one = make({ status: ["packed", "new"], owner: null })
    expect(make({ owner: null, status: ["new", "packed", "new"] })?.text).toBe(one?.text)
    expect(make({ n: 1, b: true })?.text).toBe(make({ n: ["1"], b: "true" })?.text)
    expect(make({ status: "null" })?.text).not.toBe(make({ status: null })?.text)
  })

  it("is none without a column", () => {
    expect(make(undefined, {})).toBe(undefined)
  })

  it("has the rows that all conditions include", () => {
    const filter = make({ status: ["new", "packed"] }, { status: ["packed", "sent"], owner: "a" })!
    expect(includes(filter, { status: "packed", owner: "a" })).toBe(true)
    expect(includes(filter, { status: "new", owner: "a" })).toBe(false)
    expect(includes(filter, { status: "packed", owner: null })).toBe(false)
    expect(includes(make({ status: null })!, { status: null })).toBe(true)
  })

  it("excludes every row when no text satisfies both conditions", () => {
    const filter = make({ status: "new" }, { status: "sent" })!
    expect(judge(filter, { old: { status: "new" }, new: { status: "sent" } })).toBe("outside")
    expect(judge(filter, { new: {} })).toBe("outside")
  })

  it("judges a change by the rows before and after", () => {
    const filter = make({ status: "new" })!
    const [inside, outside] = [{ status: "new" }, { status: "sent" }]
    expect(judge(filter, { new: inside })).toBe("enters")
    expect(judge(filter, { old: outside, new: inside })).toBe("enters")
    expect(judge(filter, { old: inside, new: inside })).toBe("stays")
    expect(judge(filter, { old: inside, new: outside })).toBe("leaves")
    expect(judge(filter, { old: inside })).toBe("leaves")
    expect(judge(filter, { old: outside, new: outside })).toBe("outside")
    expect(judge(filter, { old: outside })).toBe("outside")
  })

  it("does not know a change that lacks a column, unless another column excludes the row", () => {
    const filter = make({ status: "new", owner: "a" })!
    expect(judge(filter, undefined)).toBe("unknown")
    expect(judge(filter, { new: { status: "new" } })).toBe("unknown")
    expect(judge(filter, { old: { owner: "a" }, new: { status: "new", owner: "a" } })).toBe(
      "unknown"
    )
    expect(judge(filter, { new: { owner: "b" } })).toBe("outside")
  })

  it("reads a match, and none in a digest or in text that is no JSON", () => {
    expect(parseMatch('{"new":{"status":null}}')).toEqual({ new: { status: null } })
    expect([parseMatch(undefined), parseMatch("5f0c"), parseMatch("{")]).toEqual([
      undefined,
      undefined,
      undefined
    ])
  })
})
