/**
 * Compares `Exact` with an independent oracle: decimal values as fractions of bigints, and a JSON
 * scanner that reads character by character.
 */
import { describe, expect, it } from "@effect/vitest"
import * as Exact from "../src/internal/exact.ts"
import { long, type Random, random, seed } from "./server/support/random.ts"

const runs = long ? 400_000 : 5000

/** A decimal number as an integer times a power of ten, without trailing zeros: one form per value. */
const valueOf = (token: string): string => {
  const [, sign, whole, fraction = "", exponent = "0"] =
    /^(-?)(\d+)(?:\.(\d+))?(?:[eE]([-+]?\d+))?$/.exec(token)!
  let digits = BigInt(whole! + fraction)
  let power = Number(exponent) - fraction.length
  if (digits === 0n) return "0"
  for (; digits % 10n === 0n; digits /= 10n) power++
  return `${sign}${digits}e${power}`
}

const isHeld = (token: string): boolean => {
  const nearest = Number(token)
  return Number.isFinite(nearest) && valueOf(token) === valueOf(String(nearest))
}

const digits = (r: Random, count: number) => Array.from({ length: count }, () => r.int(10)).join("")

/** Numbers of every size, many of them at the limits of a double. */
const token = (r: Random): string => {
  const edges = [2 ** 53, 2 ** 53 - 1, 2 ** 60, 1e21, 5e-324, Number.MAX_VALUE, 0.1, 1 / 3]
  switch (r.int(6)) {
    case 0:
      return String(
        Math.min(
          Number.MAX_VALUE,
          edges[r.int(edges.length)]! * (r.int(2) === 0 ? 1 : 1 + r.int(9))
        )
      )
    case 1:
      return `${r.int(2) === 0 ? "-" : ""}${1 + r.int(9)}${digits(r, r.int(24))}`
    case 2:
      return `${r.int(1000)}.${digits(r, 1 + r.int(24))}`
    case 3:
      return `0.${"0".repeat(r.int(20))}${digits(r, 1 + r.int(20))}`
    case 4:
      return `${r.int(10)}.${digits(r, 1 + r.int(18))}${"eE"[r.int(2)]}${["", "+", "-"][r.int(3)]}${r.int(400)}`
    default:
      return `${1 + r.int(9)}${digits(r, r.int(18))}${"0".repeat(r.int(18))}${r.int(3) === 0 ? ".0" : ""}`
  }
}

const strings = [`""`, `"a"`, `"9007199254740993"`, `"\\"12345678901234567890"`, `"\\\\"`, `"é😀"`]
const names = [`"id"`, `"9007199254740993"`, `"1e400"`, `"a\\"b"`, `"total"`]

/** JSON with white space between all tokens, and the expected result. */
const nested = (r: Random, depth: number): readonly [text: string, expected: string] => {
  const space = ["", " ", "\n", "\t\r "][r.int(4)]!
  const kind = depth === 0 ? r.int(3) : r.int(5)
  if (kind === 0) {
    const one = strings[r.int(strings.length)]!
    return [one + space, one + space]
  }
  if (kind <= 2) {
    const number = token(r)
    return [number + space, (isHeld(number) ? number : `"${Exact.plain(number)}"`) + space]
  }
  const parts = Array.from({ length: r.int(4) }, () => {
    const [text, expected] = nested(r, depth - 1)
    if (kind === 3) return [space + text, space + expected] as const
    const name = `${space}${names[r.int(names.length)]!}${space}:${space}`
    return [name + text, name + expected] as const
  })
  const [open, close] = kind === 3 ? ["[", "]"] : ["{", "}"]
  const join = (index: 0 | 1) =>
    `${open}${parts.map((part) => part[index]).join(",")}${close}${space}`
  return [join(0), join(1)]
}

const fails = (text: string) => {
  try {
    JSON.parse(text)
    return false
  } catch {
    return true
  }
}

describe(`exact numbers (seed ${seed})`, () => {
  it("stay numbers when the shortest text of their double has the same value, else become strings", () => {
    const r = random(seed)
    let held = 0
    for (let run = 0; run < runs; run++) {
      const number = token(r)
      if (isHeld(number)) held++
      expect([number, Exact.isExact(number)]).toEqual([number, isHeld(number)])
      const parsed = Exact.parse(number)
      expect(typeof parsed === "string" ? valueOf(parsed) : parsed).toEqual(
        isHeld(number) ? Number(number) : valueOf(number)
      )
      expect(Exact.isFraction(number)).toBe(/e-/.test(valueOf(number)))
    }
    expect(held / runs).toBeGreaterThan(0.2)
    expect(held / runs).toBeLessThan(0.9)
  })

  it("become strings at any depth, and a second rewrite changes nothing", () => {
    const r = random(seed + 1)
    for (let run = 0; run < runs / 4; run++) {
      const [text, expected] = nested(r, 4)
      expect(Exact.rewrite(text)).toBe(expected)
      expect(Exact.rewrite(expected)).toBe(expected)
    }
  })

  it("stay invalid in invalid JSON, and valid in valid JSON", () => {
    const r = random(seed + 2)
    const noise = `{}[]",:\\ .-+eE0123456789tfn`
    for (let run = 0; run < runs; run++) {
      const [text] = nested(r, 3)
      const at = r.int(text.length + 1)
      const mutated = text.slice(0, at) + noise[r.int(noise.length)]! + text.slice(at + r.int(3))
      expect([mutated, fails(Exact.rewrite(mutated))]).toEqual([mutated, fails(mutated)])
    }
  })

  it("stay unchanged in text that JSON.stringify wrote", () => {
    const r = random(seed + 3)
    const bits = new DataView(new ArrayBuffer(8))
    for (let run = 0; run < runs; run++) {
      bits.setUint32(0, r.int(2 ** 32))
      bits.setUint32(4, r.int(2 ** 32))
      const text = JSON.stringify({ a: [bits.getFloat64(0), r.int(2 ** 53), 2 ** (run % 1024)] })
      expect(Exact.rewrite(text)).toBe(text)
    }
  })
})

describe("Exact", () => {
  it.each([
    ["9007199254740992", "9007199254740992"],
    ["9007199254740993", `"9007199254740993"`],
    ["1152921504606847000", "1152921504606847000"],
    ["1152921504606846976", `"1152921504606846976"`],
    ["12345678901234567890.50", `"12345678901234567890.5"`],
    ["12345678901234567890.00", `"12345678901234567890"`],
    ["-0.10000000000000000001", `"-0.10000000000000000001"`],
    ["0.1", "0.1"],
    ["1.0", "1.0"],
    ["-0", "-0"],
    ["0e999", "0e999"],
    ["1e400", `"1e400"`],
    ["1E-400", `"1E-400"`],
    ["5e-324", "5e-324"],
    ["4e-324", `"4e-324"`],
    ["1e1000000000", `"1e1000000000"`]
  ])("reads %s as %s", (text, expected) => {
    expect(Exact.rewrite(text)).toBe(expected)
  })

  it("writes each integer of a row beyond 2^53 - 1 as a string", () => {
    const ids = "[9007199254740991,9007199254740992,1152921504606847000,-1152921504606847000]"
    expect(Exact.parse(ids, { row: true })).toEqual([
      9007199254740991,
      "9007199254740992",
      "1152921504606847000",
      "-1152921504606847000"
    ])
    // A column with a scale too: the value is the same.
    expect(Exact.parse("[9007199254740992.0,-31017191483137280.00,2.50]", { row: true })).toEqual([
      "9007199254740992",
      "-31017191483137280",
      2.5
    ])
    // PostgreSQL writes a double of that size with an exponent.
    expect(Exact.parse("[1e+300,1.5e+16,0.30000000000000004]", { row: true })).toEqual([
      1e300, 1.5e16, 0.30000000000000004
    ])
  })

  it("marks the strings it made from numbers, not the strings of the text", () => {
    const text = `{"a":12345678901234567890,"b":"12345678901234567890"}`
    const { mark, value } = Exact.parseMarked(text)
    expect(value).toEqual({ a: `${mark}12345678901234567890`, b: "12345678901234567890" })
  })

  it("takes linear time for 1 MiB of text", () => {
    const size = 1024 * 1024
    const texts = [
      "1".repeat(size),
      `${"1".repeat(size)}.`,
      `[${"12345678901234567890,".repeat(size / 21)}0]`,
      `[${"1e400,".repeat(size / 6)}0]`,
      `"${"1".repeat(size)}"`,
      `"${"\\\\".repeat(size / 2)}`,
      `1${"0".repeat(size)}1`,
      `[${`"1234567890123456 ",`.repeat(size / 20)}0]`
    ]
    // A quadratic step would run into the test's timeout.
    for (const text of texts) expect(Exact.rewrite(text).length).toBeGreaterThanOrEqual(size - 64)
  })
})
