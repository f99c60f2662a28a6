import { describe, expect, it } from "@effect/vitest"
import { Batch } from "../../../src/server/internal/batch.ts"
import { textFrame } from "../../../src/server/internal/frames.ts"
import { Mailbox } from "../../../src/server/internal/mailbox.ts"

/** A socket that takes `room` frames and is full then. */
const socket = (room: number, limit = 1000, durable: ReadonlyArray<string> = []) => {
  const written: Array<string> = []
  const behind: Array<readonly [string, string]> = []
  const seen = { blocked: 0, dropped: 0, room }
  const mailbox = new Mailbox({
    peer: {
      write: (frame) => {
        written.push(...texts(Buffer.from(frame)))
        return --seen.room > 0
      }
    },
    limit,
    onBlocked: () => seen.blocked++,
    onDropped: () => seen.dropped++,
    resumes: (channel) => durable.includes(channel),
    onBehind: (channel, from) => behind.push([channel, from])
  })
  return { mailbox, written, seen, behind }
}

/** The texts of frames that stand one after the other, all shorter than 65,536 bytes. */
const texts = (bytes: Buffer): Array<string> => {
  const found: Array<string> = []
  for (let at = 0; at < bytes.length;) {
    const short = bytes[at + 1]!
    const size = short === 126 ? bytes.readUInt16BE(at + 2) : short
    const start = at + (short === 126 ? 4 : 2)
    found.push(bytes.toString("utf8", start, start + size))
    at = start + size
  }
  return found
}

const batch = (channel: string, number: number, size = 10) =>
  new Batch(channel, number, `e:${number - 1}`, `e:${number}`, [
    {
      id: `e:${number}`,
      at: 0,
      payload: undefined,
      json: JSON.stringify("x".repeat(size)),
      tx: undefined
    }
  ])

const typeAndCursor = (text: string) => {
  const frame = JSON.parse(text) as { type: string; channel?: string; cursor?: string }
  return [frame.type, frame.channel, frame.cursor]
}

describe("Mailbox", () => {
  it("writes at once while the socket takes bytes", () => {
    const { mailbox, seen, written } = socket(10)
    mailbox.offer(batch("a", 1))
    mailbox.control(textFrame("{}"))
    expect(written).toHaveLength(2)
    expect([mailbox.blocked, mailbox.bytes, seen.blocked]).toEqual([false, 0, 0])
  })

  it("keeps order across a full socket, control frames among events", () => {
    const { mailbox, seen, written } = socket(1)
    for (const number of [1, 2, 3]) mailbox.offer(batch("a", number))
    mailbox.control(textFrame(`{"type":"ping"}`))
    mailbox.offer(batch("a", 4))
    expect(written).toHaveLength(1)
    expect(seen.blocked).toBe(1)
    seen.room = 10
    mailbox.drained()
    expect(written.map((text) => typeAndCursor(text)[2])).toEqual([
      "e:1",
      "e:2",
      "e:3",
      undefined,
      "e:4"
    ])
    expect([mailbox.blocked, mailbox.bytes]).toEqual([false, 0])
  })

  it("drops waiting events at its bound and tells a gap per channel, at the newest cursor", () => {
    const { mailbox, seen, written } = socket(1, 500)
    mailbox.offer(batch("a", 1))
    mailbox.offer(batch("a", 2))
    mailbox.control(textFrame(`{"type":"ping"}`))
    mailbox.offer(batch("b", 1))
    mailbox.offer(batch("a", 3, 400))
    mailbox.offer(batch("b", 2))
    expect(seen.dropped).toBe(1)
    seen.room = 10
    mailbox.drained()
    expect(written.slice(1).map(typeAndCursor)).toEqual([
      ["gap", "a", "e:3"],
      ["ping", undefined, undefined],
      ["gap", "b", "e:1"],
      ["events", "b", "e:2"]
    ])
  })

  it("tells no gap of a channel that resumes, but where its last written frame ended", () => {
    const { behind, mailbox, seen, written } = socket(1, 300, ["d"])
    mailbox.offer(batch("d", 1))
    mailbox.offer(batch("d", 2))
    mailbox.offer(batch("a", 1, 300))
    mailbox.offer(batch("d", 3))
    expect(behind).toEqual([])
    seen.room = 10
    mailbox.drained()
    expect(written.slice(1).map(typeAndCursor)).toEqual([["gap", "a", "e:1"]])
    expect(behind).toEqual([["d", "e:1"]])
    // From here on it is the channel's own affair again.
    mailbox.offer(batch("d", 4))
    expect(typeAndCursor(written.at(-1)!)).toEqual(["events", "d", "e:4"])
  })

  it("never holds more than its bound and one gap per channel, however long it is blocked", () => {
    const { mailbox, seen, written } = socket(1, 2000)
    mailbox.offer(batch("a", 1))
    let most = 0
    for (let number = 2; number < 5000; number++) {
      mailbox.offer(batch("a", number, 50))
      most = Math.max(most, mailbox.bytes)
    }
    expect(most).toBeLessThanOrEqual(2000)
    seen.room = 1000
    mailbox.drained()
    const cursors = written.map((text) => Number(typeAndCursor(text)[2]!.split(":")[1]))
    // One gap stands for all that was dropped; what follows it is complete.
    expect(written.filter((text) => text.includes(`"gap"`))).toHaveLength(1)
    expect(cursors.slice(2)).toEqual(cursors.slice(2).map((_, index) => cursors[1]! + index + 1))
    expect(cursors.at(-1)).toBe(4999)
  })

  it("is blocked again at once when the socket takes no more than the backlog", () => {
    const { mailbox, seen } = socket(1)
    mailbox.offer(batch("a", 1))
    mailbox.offer(batch("a", 2))
    seen.room = 1
    mailbox.drained()
    expect([mailbox.blocked, seen.blocked]).toEqual([true, 2])
  })
})
