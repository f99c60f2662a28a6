import { describe, expect, it } from "@effect/vitest"
import * as JsonNames from "../src/internal/jsonNames.ts"
import { random, seed } from "./server/support/random.ts"

/** Parses JSON by recursive descent, without the engine's own parser for names. */
const slowly = (text: string): unknown => {
  let at = 0
  const space = () => {
    while (/\s/.test(text[at] ?? "")) at++
  }
  const string = (): string => {
    const start = at++
    while (text[at] !== '"') at += text[at] === "\\" ? 2 : 1
    at++
    return JSON.parse(text.slice(start, at)) as string
  }
  const value = (): unknown => {
    space()
    if (text[at] === '"') return string()
    if (text[at] !== "{" && text[at] !== "[") {
      const start = at
      while (/[\w.+-]/.test(text[at] ?? "")) at++
      return JSON.parse(text.slice(start, at))
    }
    const close = text[at] === "{" ? "}" : "]"
    const entries: Array<[string, unknown]> = []
    at++
    for (space(); text[at] !== close; space()) {
      if (text[at] === ",") at++
      space()
      let name = String(entries.length)
      if (close === "}") {
        name = string()
        space()
        at++
      }
      entries.push([name, value()])
    }
    at++
    return close === "]" ? entries.map(([, inner]) => inner) : Object.fromEntries(entries)
  }
  return value()
}

/** The text of a value with its names in order. */
const shown = (value: unknown): string => JSON.stringify(value)

const names = ["a", "k\\", "k\n", "k", "1", "ü", 'q"', "__proto__", "\\\\n", "\ud800", ""]

describe(`names of JSON (seed ${seed})`, () => {
  it("parse as they are spelled, whatever names the process parsed before", () => {
    expect(JsonNames.parseJson(String.raw`{"a":1,"k\\":2}`)).toEqual({ a: 1, "k\\": 2 })
    expect(JsonNames.parseJson(String.raw`{"a":1,"k\n":2}`)).toEqual({ a: 1, "k\n": 2 })
    expect(JsonNames.parseJson(String.raw`[{"a":1,"k\u000a":{"\"":"\\"}}]`)).toEqual([
      { a: 1, "k\n": { '"': "\\" } }
    ])
  })

  it("equal the names of a parser that reads character by character", () => {
    const r = random(seed)
    const spelled = (name: string) => {
      const plain = JSON.stringify(name)
      return r.int(3) > 0 || name === ""
        ? plain
        : `"${[...name].map((one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, "0")}`).join("")}"`
    }
    const json = (depth: number): string => {
      if (depth === 0 || r.int(4) === 0) return r.pick(["1", '"\\\\"', "null", '"k\\n:"', '"a"'])
      const parts = Array.from({ length: r.int(4) }, () => json(depth - 1))
      return r.int(3) === 0
        ? `[${parts.join(", ")}]`
        : `{${parts.map((part) => `${spelled(r.pick(names))} : ${part}`).join(",")}}`
    }
    for (let run = 0; run < 5000; run++) {
      const text = json(4)
      expect([text, shown(JsonNames.parseJson(text))]).toEqual([text, shown(slowly(text))])
    }
  })

  it("stay invalid in invalid JSON, and 50,000 of them parse in linear time", () => {
    const wrong = [`{"a\\x":1}`, `{"a\\":1}`, `{"\\n" 1}`, `"\\`, `{"a\n\\n":1}`, `{\\"a":1}`]
    for (const text of wrong) expect(() => JsonNames.parseJson(text)).toThrow(SyntaxError)
    const many = 50_000
    expect(JsonNames.parseJson(`[${`"a",`.repeat(many)}"\\n"]`)).toHaveLength(many + 1)
    const deep = `${`{"k\\n":`.repeat(many)}0${"}".repeat(many)}`
    expect(Object.keys(JsonNames.parseJson(deep) as object)).toEqual(["k\n"])
  })
})
