import { describe, expect, it } from "@effect/vitest"
import { createRequire } from "node:module"
import { webSocket } from "../../../../src/server/internal/door/webSocket.ts"

/** The frame writer of ws, which its types do not export. */
const { Sender } = createRequire(import.meta.url)("ws") as {
  readonly Sender: {
    readonly frame: (data: Buffer, options: object) => ReadonlyArray<Buffer>
  }
}

describe("The WebSocket codec", () => {
  it.each([0, 1, 125, 126, 127, 65_535, 65_536, 200_000])(
    "the WebSocket codec frames a text of %i bytes exactly as ws does",
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
        const ours = webSocket.encode(text)
        expect(ours.equals(Buffer.concat(theirs))).toBe(true)
        expect(webSocket.textOf(ours)).toBe(text)
      }
    }
  )
})
