import { describe, expect, it } from "@effect/vitest"
import { Batch } from "../../../../src/server/internal/hub/batch.ts"
import { VolatileBatch } from "../../../../src/server/internal/hub/volatileChannel.ts"
import { Mailbox } from "../../../../src/server/internal/session/mailbox.ts"
import type { Outgoing } from "../../../../src/server/internal/hub/outgoing.ts"
import { bytesOf, line, Sized, sizes } from "../../../support/messages.ts"

/** A socket that accepts `room` writes and is full then. */
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
  /** A mailbox that gives up channels that fell behind as soon as they can resume. */
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
    limit,
    3
  )
  mailbox.onFull(() => seen.blocked++)
  return { mailbox, written, writes, seen, behind }
}

/** The channel "d" resumes from a cursor; every other channel gets a gap. */
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
  it("a mailbox returns for each offered batch whether it was written, waits, fell behind or was dropped", () => {
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

  it("a mailbox returns whether channels are behind when its socket drains", () => {
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

  it("a mailbox writes at once while its socket is not full", () => {
    const { mailbox, seen, written } = socket(10)
    mailbox.offer(batch("a", 1))
    mailbox.control(line("{}"))
    expect(written).toHaveLength(2)
    expect([mailbox.blocked, mailbox.bytes, seen.blocked]).toEqual([false, 0, 0])
  })

  it("a mailbox keeps events and control frames in order across a full socket", () => {
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

  it("a mailbox at its limit drops waiting events and sends a gap per channel at its newest cursor", () => {
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

  it("a channel that resumes gets no gap: the mailbox keeps its first frames and resumes after the last", () => {
    const { behind, mailbox, seen, written } = socket(1, 400)
    mailbox.offer(batch("d", 1))
    mailbox.offer(batch("d", 2))
    mailbox.offer(batch("d", 3))
    // Over the limit: frames that fit into half of it stay.
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
    // From here on the channel sends by itself again.
    mailbox.offer(batch("d", 5))
    expect(typeAndCursor(written.at(-1)!)).toEqual(["events", "d", "e:5"])
  })

  it("a channel that resumes and no longer fits drops no waiting frame of any channel", () => {
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
    ["is kept if it fits into half of the limit", 10, ["e:1"], "e:1"],
    ["is read again if it does not fit into half of the limit", 150, [], "e:0"]
  ])(
    "when the mailbox drops its backlog, a waiting frame of a channel that fell behind %s",
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

  it("a channel that fell behind resumes only once the whole backlog is written", () => {
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

  it("a gap of a channel that resumes is never dropped", () => {
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

  it("a mailbox counts frames held elsewhere, and lets them take at most half of its limit", () => {
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

  it("answers that wait take no room of events, and dropped events take no answer with them", () => {
    const { mailbox, seen, written } = socket(1, 1000)
    mailbox.offer(batch("a", 1))
    const answers = 30 * bytesOf(line(`{"type":"ping"}`))
    for (let n = 0; n < 30; n++) mailbox.control(line(`{"type":"ping"}`))
    mailbox.offer(batch("a", 2, 600))
    expect([mailbox.answers, seen.dropped]).toEqual([answers, 0])
    // Neither dropping events nor forgetting a channel changes the answers.
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
      "held batches",
      (mailbox: Mailbox) => {
        while (mailbox.hold(new Sized(100)) > 0);
      }
    ],
    [
      "durable frames that are kept",
      (mailbox: Mailbox) => {
        for (let number = 1; mailbox.room > 200; number++) mailbox.offer(batch("d", number))
      }
    ],
    [
      "held batches and kept durable frames",
      (mailbox: Mailbox) => {
        while (mailbox.hold(new Sized(100)) > 0);
        for (let number = 1; mailbox.room > 200; number++) mailbox.offer(batch("d", number))
      }
    ]
  ])("a mailbox full of %s frees half of its limit with each drop", (_, fill) => {
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
      // The latest drop leaves half of the limit, but for the gap.
      expect(mailbox.room).toBeGreaterThan(limit / 2 - 100)
    }
    expect(Math.min(...dropped.slice(1))).toBeGreaterThan(limit / 2 - 200)
  })

  it("unsubscribing from a channel that fell behind forgets where to resume it", () => {
    const { behind, mailbox, seen, written } = socket(1, 400)
    mailbox.offer(batch("d", 1))
    mailbox.offer(batch("d", 2, 500))
    mailbox.forget("d")
    mailbox.offer(batch("d", 3))
    seen.room = 10
    mailbox.drained()
    expect([behind, typeAndCursor(written.at(-1)!)]).toEqual([[], ["events", "d", "e:3"]])
  })

  it("unsubscribing from a channel drops its waiting frames, and a later subscription starts anew", () => {
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

  it("a blocked mailbox holds at most its limit of 2,000 bytes and one gap per channel", () => {
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
    // One gap stands for all dropped events, and no event after it is missing.
    expect(written.filter((text) => text.includes(`"gap"`))).toHaveLength(1)
    expect(cursors.slice(2)).toEqual(cursors.slice(2).map((_, index) => cursors[1]! + index + 1))
    expect(cursors.at(-1)).toBe(4999)
  })

  it("a mailbox writes its backlog in slices of at most 64 KiB, and is blocked until all is written", () => {
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
      // A batch offered meanwhile waits behind the backlog.
      if (slice < 4) mailbox.offer(batch("a", next++, 10_000))
    }
    // Six frames fit into a slice and seven do not; the socket accepts the rest at the end.
    expect(writes.slice(1, 7).map((bytes) => Math.round(bytes / 10_000))).toEqual([
      6, 6, 6, 6, 6, 6
    ])
    expect(mailbox.bytes).toBe(0)
    expect(before).toBeGreaterThan(400_000)
    expect(written.map((text) => typeAndCursor(text)[2])).toEqual(
      Array.from({ length: next - 1 }, (_, index) => `e:${index + 1}`)
    )
  })

  it("a frame larger than 64 KiB is written alone and whole", () => {
    const { mailbox, seen, writes } = socket(1, 1024 * 1024)
    const frames = [batch("a", 1), batch("a", 2), batch("b", 1, 100_000), batch("a", 3)]
    for (const frame of frames) mailbox.offer(frame)
    while (mailbox.blocked) {
      seen.room = writes.length === 3 ? 2 : 1
      mailbox.drained()
    }
    expect(writes).toEqual(frames.map(bytesOf))
  })

  it("a mailbox that overflows between two slices drops only frames it has not written", () => {
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

  it("a mailbox is blocked again at once when its socket is full after the backlog", () => {
    const { mailbox, seen } = socket(1)
    mailbox.offer(batch("a", 1))
    mailbox.offer(batch("a", 2))
    seen.room = 1
    mailbox.drained()
    expect([mailbox.blocked, seen.blocked]).toEqual([true, 2])
  })
})

describe("Mailbox with volatile channels", () => {
  /** A batch of one event of a channel whose newest event of each key counts. */
  const volatile = (channel: string, key: string, number: number, size = 10) =>
    new VolatileBatch(
      { name: channel, resumes: false },
      number,
      [
        {
          id: `n:${number}`,
          at: 0,
          payload: undefined,
          json: JSON.stringify("x".repeat(size)),
          tx: undefined
        }
      ],
      [key]
    )

  const read = (text: string) => {
    const frame = JSON.parse(text) as {
      type: string
      channel: string
      events?: ReadonlyArray<{ id: string }>
    }
    return [frame.type, frame.channel, ...(frame.events ?? []).map(({ id }) => id)]
  }

  it("while its socket is full, a mailbox keeps the newest event of each key, at most as many as it may", () => {
    const { mailbox, seen, written } = socket(1)
    for (const [index, key] of ["a", "a", "b", "a", "c", "d", "c"].entries()) {
      expect(mailbox.offer(volatile("v", key, index))).toBe(index === 0 ? "written" : "waits")
    }
    seen.room = 10
    mailbox.drained()
    // "b" was the oldest of four keys.
    expect(written.map(read)).toEqual([
      ["events", "v", "n:0"],
      ["events", "v", "n:3", "n:5", "n:6"]
    ])
    expect([mailbox.blocked, mailbox.bytes]).toEqual([false, 0])
    mailbox.offer(volatile("v", "a", 9))
    expect(written).toHaveLength(3)
  })

  it("writes other frames first, and goes on with newer events when the socket is full again", () => {
    const { mailbox, seen, written } = socket(1)
    mailbox.offer(volatile("v", "a", 0))
    mailbox.offer(volatile("v", "a", 1))
    mailbox.offer(volatile("w", "a", 2))
    mailbox.offer(batch("live", 1))
    mailbox.control(line(`{"type":"ping"}`))
    seen.room = 2
    mailbox.drained()
    expect(written.slice(1).map((text) => read(text)[1])).toEqual(["live", undefined, "v"])
    mailbox.offer(volatile("w", "a", 3))
    seen.room = 10
    mailbox.drained()
    expect(written.slice(4).map(read)).toEqual([["events", "w", "n:3"]])
  })

  it("writes what waits in slices, so that a slow link shows that it takes some", () => {
    const { mailbox, seen, written } = socket(1, 1_000_000)
    for (const key of ["z", "a", "b", "c"]) mailbox.offer(volatile("v", key, 1, 40_000))
    seen.room = 10
    mailbox.drained()
    expect(written).toHaveLength(4)
  })

  it("counts volatile events apart from others, and drops what the client left", () => {
    const { mailbox, seen, written } = socket(1, 1000)
    for (const key of ["z", "a", "b", "c"]) mailbox.offer(volatile("v", key, 1, 200))
    expect(mailbox.room).toBe(1000)
    expect(mailbox.bytes).toBeLessThanOrEqual(1000)
    mailbox.forget("v")
    expect(mailbox.bytes).toBe(0)
    seen.room = 10
    mailbox.drained()
    expect([written.length, seen.dropped]).toEqual([1, 0])
  })
})
