import { describe, expect, it } from "@effect/vitest"
import { createRequire } from "node:module"
import { lasting, textFrame } from "../../../../src/server/internal/hub/frames.ts"

/** Exported by ws, but not typed: how it frames a message itself. */
const { Sender } = createRequire(import.meta.url)("ws") as {
  readonly Sender: {
    readonly frame: (data: Buffer, options: object) => ReadonlyArray<Buffer>
  }
}

describe("textFrame", () => {
  it.each([0, 1, 125, 126, 127, 65_535, 65_536, 200_000])(
    "writes a text of %i bytes exactly as ws does",
    (size) => {
      for (const unit of ["x", "é", "😀"]) {
        const text = unit.repeat(Math.floor(size / Buffer.byteLength(unit)))
        const theirs = Sender.frame(Buffer.from(text), {
          fin: true,
          rsv1: false,
          opcode: 1,
          mask: false,
          readOnly: true
        })
        expect(textFrame(text).equals(Buffer.concat(theirs))).toBe(true)
      }
    }
  )
})

describe("lasting", () => {
  it.each([0, 300, 5000])("gives %i bytes memory of their own, once", (size) => {
    const frame = textFrame("x".repeat(size))
    const kept = lasting(frame)
    expect(kept.equals(frame)).toBe(true)
    expect(kept.buffer.byteLength).toBe(kept.length)
    expect(lasting(kept)).toBe(kept)
  })
})
