import { describe, expect, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import * as Cursor from "../src/internal/cursorText.ts"

describe("a live cursor", () => {
  it("consists of an epoch and a sequence number", () => {
    expect(Cursor.formatLive("Ab_-9", 7)).toBe("Ab_-9:7")
    expect(Cursor.parseLive("Ab_-9:7")).toEqual({ epoch: "Ab_-9", seq: 7 })
  })

  const seed = 1
  const maxSeq = Schema.isLessThanOrEqualTo(Number.MAX_SAFE_INTEGER)
  it.effect.prop(
    `decodes to the epoch and number it was encoded from (seed ${seed})`,
    {
      epoch: Schema.String.check(Schema.isPattern(/^[A-Za-z0-9_-]{1,32}$/)),
      seq: Schema.Natural.check(maxSeq)
    },
    ({ epoch, seq }) =>
      Effect.sync(() =>
        // A generated number may be -0, so `+ 0`.
        expect(Cursor.parseLive(Cursor.formatLive(epoch, seq))).toEqual({ epoch, seq: seq + 0 })
      ),
    { arbitrary: { runs: 500, seed } }
  )

  it.each([
    { title: "the first position", text: "e:0", cursor: { epoch: "e", seq: 0 } },
    {
      title: "the last position of the longest epoch",
      text: `${"e".repeat(32)}:9007199254740991`,
      cursor: { epoch: "e".repeat(32), seq: Number.MAX_SAFE_INTEGER }
    }
  ])("may be $title", ({ cursor, text }) => {
    expect(Cursor.parseLive(text)).toEqual(cursor)
  })

  it.each([
    "",
    ":",
    "e",
    "e:",
    ":1",
    "e:-1",
    "e:+1",
    "e:01",
    "e:1.5",
    "e:1e3",
    "e:0x1",
    "e: 1",
    "e:1 ",
    "e:1\n",
    "e:1:1",
    "é:1",
    "e/f:1",
    "e:９",
    "e:9007199254740992",
    "e:9999999999999999",
    `${"e".repeat(33)}:1`,
    "1.12345678.AAAA"
  ])("is not %j", (text) => {
    expect(Cursor.parseLive(text)).toBeUndefined()
  })

  it("is measured before it is parsed, so 10 MB of text return at once", () => {
    expect(Cursor.parseLive(`${"e".repeat(10_000_000)}:1`)).toBeUndefined()
  })

  it("has at most 8,192 bytes", () => {
    expect(Cursor.maxBytes).toBe(8192)
  })
})
