import { describe, expect, it } from "@effect/vitest"
import { Batch } from "../../../../src/server/internal/hub/batch.ts"
import { Mailbox } from "../../../../src/server/internal/session/mailbox.ts"
import type { Outgoing } from "../../../../src/server/internal/hub/outgoing.ts"
import { bytesOf, line, Sized, sizes } from "../../../support/messages.ts"

/** A socket that takes `room` frames and is full then. */
const socket = (room: number, limit = 1000) => {
  const written: Array<string> = []
  const writes: Array<number> = []
  const behind: Array<readonly [string, string]> = []
  const seen = { blocked: 0, dropped: 0, room }
  const writeAll = (messages: ReadonlyArray<Outgoing>) => {
    written.push(...messages.map(({ text }) => text))
    writes.push(messages.reduce((sum, message) => sum + bytesOf(message), 0))
    return --seen.room > 0
  }
  /** A mailbox whose user takes what is behind as soon as it can go on. */
  class UsedMailbox extends Mailbox {
    override offer(batch: Batch) {
      const outcome = super.offer(batch)
      if (outcome === "fell" || outcome === "dropped") seen.dropped++
      return outcome
    }
    override fallBehind(channel: string, from: string) {
      super.fallBehind(channel, from)
      if (this.isBehind) this.#goOn()
    }
    override drained() {
      const isBehind = super.drained()
      if (isBehind) this.#goOn()
      return isBehind
    }
    #goOn() {
      let next
      while ((next = this.nextBehind()) !== undefined) behind.push(next)
    }
  }
  const mailbox = new UsedMailbox(
    { ...sizes, write: (message) => writeAll([message]), writeAll },
    limit
  )
  mailbox.onFull(() => seen.blocked++)
  return { mailbox, written, writes, seen, behind }
}

/** The channel "d" goes on from a cursor, all others are told a gap. */
const of = (name: string) => ({ name, resumes: name === "d" })

const batch = (channel: string, number: number, size = 10) =>
  new Batch(of(channel), number, `e:${number - 1}`, `e:${number}`, [
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
  it("answers what became of a batch", () => {
    const { mailbox } = socket(2, 400)
    const outcomes = [
      batch("a", 1),
      batch("a", 2),
      batch("a", 3),
      batch("d", 1, 300),
      batch("d", 2),
      batch("a", 4, 300),
      batch("a", 5)
    ].map((one) => mailbox.offer(one))
    expect(outcomes).toEqual(["written", "written", "waits", "fell", "behind", "dropped", "waits"])
    expect(mailbox.isBehind).toBe(false)
  })

  it("answers whether channels are behind when the socket drained", () => {
    const { behind, mailbox, seen } = socket(1, 400)
    mailbox.offer(batch("a", 1))
    mailbox.offer(batch("a", 2))
    seen.room = 10
    expect(mailbox.drained()).toBe(false)
    seen.room = 1
    mailbox.offer(batch("a", 3))
    mailbox.offer(batch("d", 1, 400))
    seen.room = 10
    expect([mailbox.drained(), behind]).toEqual([true, [["d", "e:0"]]])
  })

  it("writes at once while the socket takes bytes", () => {
    const { mailbox, seen, written } = socket(10)
    mailbox.offer(batch("a", 1))
    mailbox.control(line("{}"))
    expect(written).toHaveLength(2)
    expect([mailbox.blocked, mailbox.bytes, seen.blocked]).toEqual([false, 0, 0])
  })

  it("keeps order across a full socket, control frames among events", () => {
    const { mailbox, seen, written } = socket(1)
    for (const number of [1, 2, 3]) mailbox.offer(batch("a", number))
    mailbox.control(line(`{"type":"ping"}`))
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
    mailbox.control(line(`{"type":"ping"}`))
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

  it("tells no gap of a channel that resumes, but where its last frame that stays ends", () => {
    const { behind, mailbox, seen, written } = socket(1, 400)
    mailbox.offer(batch("d", 1))
    mailbox.offer(batch("d", 2))
    mailbox.offer(batch("d", 3))
    // Too much: what fits into half of the bound stays.
    mailbox.offer(batch("a", 1, 300))
    mailbox.offer(batch("d", 4))
    expect([behind, seen.dropped]).toEqual([[], 1])
    seen.room = 10
    mailbox.drained()
    expect(written.slice(1).map(typeAndCursor)).toEqual([
      ["events", "d", "e:2"],
      ["gap", "a", "e:1"]
    ])
    expect(behind).toEqual([["d", "e:2"]])
    // From here on it is the channel's own affair again.
    mailbox.offer(batch("d", 5))
    expect(typeAndCursor(written.at(-1)!)).toEqual(["events", "d", "e:5"])
  })

  it("keeps everything that waits when a channel that resumes does not fit any more", () => {
    const { behind, mailbox, seen, written } = socket(1, 400)
    mailbox.offer(batch("a", 1))
    mailbox.offer(batch("a", 2))
    mailbox.offer(batch("d", 1))
    mailbox.offer(batch("d", 2, 300))
    mailbox.offer(batch("d", 3))
    mailbox.offer(batch("a", 3))
    seen.room = 10
    mailbox.drained()
    expect(written.slice(1).map(typeAndCursor)).toEqual([
      ["events", "a", "e:2"],
      ["events", "d", "e:1"],
      ["events", "a", "e:3"]
    ])
    expect(behind).toEqual([["d", "e:1"]])
  })

  it.each([
    ["stays where it is when it fits into half of the bound", 10, ["e:1"], "e:1"],
    ["is read again too when it does not", 150, [], "e:0"]
  ])(
    "what waits of a channel that fell behind before the backlog is dropped %s",
    (_, size, kept, from) => {
      const { behind, mailbox, seen, written } = socket(1, 400)
      mailbox.offer(batch("a", 1))
      mailbox.offer(batch("d", 1, size))
      mailbox.offer(batch("d", 2, 300))
      mailbox.offer(batch("a", 2, 300))
      expect(seen.dropped).toBe(2)
      seen.room = 10
      mailbox.drained()
      const frames = written.slice(1).map(typeAndCursor)
      expect(frames.filter(([, channel]) => channel === "d").map(([, , cursor]) => cursor)).toEqual(
        kept
      )
      expect(behind).toEqual([["d", from]])
    }
  )

  it("hands a channel that resumes back only when nothing waits any more", () => {
    const { behind, mailbox, seen } = socket(1, 100_000)
    mailbox.offer(batch("a", 1))
    mailbox.offer(batch("a", 2, 60_000))
    mailbox.offer(batch("a", 3, 30_000))
    mailbox.offer(batch("d", 1, 60_000))
    for (const slice of [1, 2]) {
      seen.room = 1
      mailbox.drained()
      expect([slice, mailbox.blocked, behind]).toEqual([slice, true, []])
    }
    mailbox.drained()
    expect([mailbox.blocked, behind]).toEqual([false, [["d", "e:0"]]])
  })

  it("never drops a gap that a channel that resumes would not find again", () => {
    const { mailbox, seen, written } = socket(1, 400)
    mailbox.offer(batch("d", 1))
    mailbox.offer(new Batch(of("d"), 2, "f:2", "f:2", "source"))
    mailbox.offer(batch("a", 1, 300))
    mailbox.offer(batch("a", 2, 300))
    seen.room = 10
    mailbox.drained()
    expect(written.slice(1).map(typeAndCursor)).toEqual([
      ["gap", "d", "f:2"],
      ["gap", "a", "e:2"]
    ])
  })

  it("counts what is held elsewhere, and lets nobody hold more than half of its bound", () => {
    const { mailbox, seen } = socket(1, 1000)
    const hold = (bytes: number) => mailbox.hold(new Sized(bytes)) > 0
    expect(hold(300)).toBe(true)
    expect(hold(201)).toBe(false)
    expect(hold(200)).toBe(true)
    mailbox.release(200)
    mailbox.offer(batch("a", 1))
    mailbox.offer(batch("a", 2, 450))
    expect([hold(200), seen.dropped]).toEqual([false, 0])
    mailbox.offer(batch("a", 3, 200))
    expect(seen.dropped).toBe(1)
    mailbox.release(300)
    expect(hold(500)).toBe(true)
  })

  it("keeps events beside any answers", () => {
    const { mailbox, seen, written } = socket(1, 1000)
    mailbox.offer(batch("a", 1))
    const answers = 30 * bytesOf(line(`{"type":"ping"}`))
    for (let n = 0; n < 30; n++) mailbox.control(line(`{"type":"ping"}`))
    mailbox.offer(batch("a", 2, 600))
    expect([mailbox.answers, seen.dropped]).toEqual([answers, 0])
    // What is dropped makes no room of answers, and what is left takes none of them along.
    mailbox.offer(batch("a", 3, 600))
    mailbox.forget("a")
    expect([mailbox.answers, mailbox.bytes, seen.dropped]).toEqual([answers, answers, 1])
    seen.room = 2
    mailbox.drained()
    expect([mailbox.answers, mailbox.bytes, written.length]).toEqual([0, 0, 31])
  })

  it.each([
    [
      "answers",
      (mailbox: Mailbox) => {
        while (mailbox.answers < 150_000) mailbox.control(line(`{"type":"ping"}`))
      }
    ],
    [
      "batches that are held",
      (mailbox: Mailbox) => {
        while (mailbox.hold(new Sized(100)) > 0);
      }
    ],
    [
      "durable frames that stay",
      (mailbox: Mailbox) => {
        for (let number = 1; mailbox.room > 200; number++) mailbox.offer(batch("d", number))
      }
    ],
    [
      "both of these",
      (mailbox: Mailbox) => {
        while (mailbox.hold(new Sized(100)) > 0);
        for (let number = 1; mailbox.room > 200; number++) mailbox.offer(batch("d", number))
      }
    ]
  ])("drops once for many events, however full it is of %s", (_, fill) => {
    const limit = 100_000
    const { mailbox, seen } = socket(1, limit)
    mailbox.offer(batch("a", 0))
    fill(mailbox)
    const dropped: Array<number> = []
    let offered = 0
    for (let number = 1; dropped.length < 5; number++) {
      const before = seen.dropped
      const event = batch("a", number, 50)
      mailbox.offer(event)
      offered += bytesOf(event)
      if (seen.dropped === before) continue
      dropped.push(offered)
      offered = 0
      // One that was dropped last leaves half of the bound, but for the gap.
      expect(mailbox.room).toBeGreaterThan(limit / 2 - 100)
    }
    expect(Math.min(...dropped.slice(1))).toBeGreaterThan(limit / 2 - 200)
  })

  it("forgets what a channel was to go on from when it is left", () => {
    const { behind, mailbox, seen, written } = socket(1, 400)
    mailbox.offer(batch("d", 1))
    mailbox.offer(batch("d", 2, 500))
    mailbox.forget("d")
    mailbox.offer(batch("d", 3))
    seen.room = 10
    mailbox.drained()
    expect([behind, typeAndCursor(written.at(-1)!)]).toEqual([[], ["events", "d", "e:3"]])
  })

  it("drops what waits of a channel that is left: whoever begins it again has nothing to do with it", () => {
    const { behind, mailbox, seen, written } = socket(1, 400)
    mailbox.offer(batch("a", 1))
    mailbox.offer(batch("d", 1, 100))
    mailbox.control(line(`{"type":"ping"}`))
    mailbox.forget("d")
    mailbox.offer(batch("d", 8))
    mailbox.offer(batch("a", 2, 300))
    seen.room = 10
    mailbox.drained()
    expect(written.slice(1).map(typeAndCursor)).toEqual([
      ["ping", undefined, undefined],
      ["events", "d", "e:8"],
      ["gap", "a", "e:2"]
    ])
    expect([behind, mailbox.bytes]).toEqual([[], 0])
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

  it("writes its backlog in slices of at most 64 KiB, and is blocked until it is empty", () => {
    const { mailbox, seen, writes, written } = socket(1, 1024 * 1024)
    for (let number = 1; number <= 41; number++) mailbox.offer(batch("a", number, 10_000))
    expect(writes).toHaveLength(1)
    const before = mailbox.bytes
    let next = 42
    while (mailbox.blocked) {
      const slice = writes.length
      seen.room = slice === 8 ? 100 : 1
      mailbox.drained()
      expect(writes[slice]).toBeLessThanOrEqual(64 * 1024)
      // What comes meanwhile waits behind what waited before.
      if (slice < 4) mailbox.offer(batch("a", next++, 10_000))
    }
    // Six frames fit, and seven do not; at last the socket took all that was left.
    expect(writes.slice(1, 7).map((bytes) => Math.round(bytes / 10_000))).toEqual([
      6, 6, 6, 6, 6, 6
    ])
    expect(mailbox.bytes).toBe(0)
    expect(before).toBeGreaterThan(400_000)
    expect(written.map((text) => typeAndCursor(text)[2])).toEqual(
      Array.from({ length: next - 1 }, (_, index) => `e:${index + 1}`)
    )
  })

  it("writes a frame that is larger than a slice alone and whole", () => {
    const { mailbox, seen, writes } = socket(1, 1024 * 1024)
    const frames = [batch("a", 1), batch("a", 2), batch("b", 1, 100_000), batch("a", 3)]
    for (const frame of frames) mailbox.offer(frame)
    while (mailbox.blocked) {
      seen.room = writes.length === 3 ? 2 : 1
      mailbox.drained()
    }
    expect(writes).toEqual(frames.map(bytesOf))
  })

  it("drops what still waits when it overflows between two slices, and never what was written", () => {
    const { mailbox, seen, written } = socket(1, 200_000)
    for (let number = 1; number <= 15; number++) mailbox.offer(batch("a", number, 10_000))
    seen.room = 1
    mailbox.drained()
    const taken = written.length
    for (let number = 16; number <= 30; number++) mailbox.offer(batch("a", number, 10_000))
    expect(seen.dropped).toBe(1)
    seen.room = 100
    mailbox.drained()
    expect(written.slice(taken).map(typeAndCursor)[0]).toEqual(["gap", "a", expect.anything()])
    const cursors = written.map((text) => Number(typeAndCursor(text)[2]!.split(":")[1]))
    expect(cursors).toEqual(cursors.toSorted((one, other) => one - other))
    expect(cursors.at(-1)).toBe(30)
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
