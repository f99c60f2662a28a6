/** Ticks and pages as text. */
import { describe, expect, it } from "@effect/vitest"
import * as Cursor from "../../../../src/internal/cursorText.ts"
import {
  feedFramesOf,
  parsePageFrame,
  parseTick
} from "../../../../src/server/internal/feed/feedFrames.ts"
import { FeedNode } from "../../../../src/server/internal/feed/feedNode.ts"
import type { Look } from "../../../../src/server/internal/outbox/look.ts"
import {
  formatPosition,
  midway,
  placeOf,
  whole
} from "../../../../src/server/internal/outbox/position.ts"
import { Followers, type Item, Tail } from "../../../../src/server/internal/outbox/tail.ts"

const identity = "abcdefgh"
const reader = { identity, reader: "1.x", term: 1 }
const taken = (xmax: bigint, tx: bigint, id: bigint) => ({
  ...placeOf({ xmax, running: [] }, { tx, id, at: 5n }),
  next: xmax,
  drawn: id,
  era: "era",
  written: "0/1"
})
const a = taken(100n, 90n, 9n)
const b = taken(110n, 108n, 12n)
const message = (id: number, channel: string, text: string, match?: string) => ({
  id: String(id),
  tx: "108",
  channel,
  text,
  at: 7,
  match
})
const messages = [
  message(10, "a.b", '{"x":"é\n😀"}'),
  message(11, "c", "1", '{"old":{}}'),
  message(12, "a.b", '"last"')
]
const look: Look = { from: whole(a), to: whole(b), end: b, channels: "all", messages }

const nodeAt = (place: typeof a) => {
  const followers = new Followers({ events: 10, maxAge: 1000, bytes: 10_000 })
  const tail = new Tail(identity, "era", place, 1, [])
  let now = 0
  const feed = new FeedNode({
    tail: () => tail,
    followers,
    now: () => now,
    time: () => 0,
    random: () => 0.5
  })
  const got: Array<string> = []
  const offer = (item: Item) => {
    if (item._tag === "Batch") got.push(...item.events.map(({ text }) => text))
  }
  return { followers, tail, feed, got, offer, pass: (ms: number) => void (now += ms) }
}

describe("The frames of a look", () => {
  it("have the messages, the positions in normal form and the witness of the end", () => {
    const { pages, tick } = feedFramesOf(look, reader, 4, 10_000)
    expect(parseTick(tick)).toMatchObject({
      reader: "1.x",
      term: 1,
      n: 4,
      from: formatPosition(identity, whole(a)),
      to: { identity, witness: b.last, position: { base: { xmax: 109n, running: [] } } },
      end: { normal: b.normal, snapshot: b.normal, next: 110n, drawn: 12n, era: "era" },
      channels: new Map([
        ["a.b", 1],
        ["c", 1]
      ])
    })
    expect(pages.map(({ text }) => parsePageFrame(text)?.messages)).toEqual([
      [messages[0], messages[2]],
      [messages[1]]
    ])
  })

  it("are at most as large as the carrier takes, and say what is left out", () => {
    const long = [message(10, "a", "x".repeat(3000)), message(11, "c", "1"), message(12, "c", "2")]
    const { pages, tick } = feedFramesOf({ ...look, messages: long }, reader, 0, 640)
    expect(pages.map(({ channel }) => channel)).toEqual(["c", "c"])
    expect([...parseTick(tick)!.channels]).toEqual([
      ["a", 0],
      ["c", 2]
    ])
    for (const { text } of [...pages, { text: tick }]) expect(text.length <= 640).toBe(true)
    const many = Array.from({ length: 50 }, (_, n) => message(n, `channel${n}`, "1"))
    const short = feedFramesOf({ ...look, messages: many }, reader, 0, 640)
    expect([short.pages, parseTick(short.tick)?.omitted]).toEqual([[], true])
  })

  it("name every channel whose name is valid", () => {
    const { tick } = feedFramesOf(
      { ...look, messages: [message(10, "__proto__", "1")] },
      reader,
      0,
      640
    )
    expect([...parseTick(tick)!.channels]).toEqual([["__proto__", 1]])
  })

  it("of another form, or cut, are none", () => {
    const { pages, tick } = feedFramesOf(look, reader, 0, 10_000)
    for (const text of [
      "",
      "{}",
      "null",
      "[1]",
      tick.slice(1),
      tick.replace('"pair":["', '"pair":["x'),
      tick.replace('"ch":[[', '"ch":[["x"],['),
      tick.replace('"ch":[', '"ch":{},"x":[')
    ]) {
      expect(parseTick(text)).toBe(undefined)
    }
    const { text } = pages[0]!
    for (const page of ["", "\n", "{}\n", text.slice(0, -1), `${text} `]) {
      expect(parsePageFrame(page)).toBe(undefined)
    }
  })
})

describe("A fed node", () => {
  it("waits 40 ms for a page, and reads to the end of the newest tick without it", () => {
    const { feed, followers, got, offer, pass, tail } = nodeAt(a)
    followers.add("a.b", { offer })
    const { pages, tick } = feedFramesOf(look, reader, 0, 10_000)
    expect(feed.isFed).toBe(false)
    feed.receiveTick(tick)
    expect([feed.isFed, feed.untilRepair, got]).toEqual([true, 40, []])
    pass(39)
    expect(feed.untilRepair).toBe(1)
    feed.receivePage(pages[0]!.text)
    expect([feed.untilRepair, got]).toEqual([undefined, ['{"x":"é\n😀"}', '"last"']])
    expect(formatPosition(identity, tail.position)).toBe(formatPosition(identity, whole(b)))
    // A copy changes nothing.
    feed.receiveTick(tick)
    expect([feed.untilRepair, got.length, feed.counts.fed]).toEqual([undefined, 2, 1])
    pass(1501)
    expect(feed.isFed).toBe(false)
  })

  it("reads at once what is too large to travel, and nothing of channels without followers", () => {
    const long = { ...look, messages: [message(10, "a", "x".repeat(3000))] }
    const { tick } = feedFramesOf(long, reader, 0, 640)
    const one = nodeAt(a)
    one.followers.add("a", { offer: one.offer })
    one.feed.receiveTick(tick)
    expect([one.feed.untilRepair, one.feed.repairTo()?.normal]).toEqual([0, b.normal])
    const other = nodeAt(a)
    other.feed.receiveTick(tick)
    expect([other.feed.untilRepair, other.feed.counts.fed]).toEqual([undefined, 1])
  })

  it("takes no tick of another database, of another era, or of an earlier term", () => {
    const { feed } = nodeAt(a)
    const from = (more: object, end = b) =>
      feedFramesOf(
        { ...look, messages: [], to: whole(end), end },
        { ...reader, ...more },
        0,
        10_000
      ).tick
    feed.receiveTick(from({ identity: "zzzzzzzz" }))
    feed.receiveTick(from({}, { ...b, era: "other" }))
    expect([feed.isFed, feed.counts]).toEqual([false, { fed: 0, repaired: 0, refused: 2 }])
    feed.receiveTick(from({ term: 3, reader: "3.x" }, a))
    feed.receiveTick(from({ term: 2, reader: "2.x" }))
    expect(feed.counts).toEqual({ fed: 0, repaired: 0, refused: 3 })
  })

  it("finishes the tick in progress before it takes another one", () => {
    const { feed, followers, got, offer, tail } = nodeAt(a)
    followers.add("c", { offer })
    // The session has begun to read to b, and was lost.
    tail.advance(b, ["c"])
    const c = taken(120n, 118n, 14n)
    const next = { ...look, to: whole(c), end: c, messages: [message(13, "c", "3")] }
    for (const frames of [
      feedFramesOf(next, reader, 1, 10_000),
      feedFramesOf(look, reader, 0, 10_000)
    ]) {
      feed.receiveTick(frames.tick)
      for (const { text } of frames.pages) feed.receivePage(text)
    }
    expect(got).toEqual(["1"])
    expect(Cursor.contains(tail.position.base.normal, b.normal)).toBe(true)
  })

  it("reads the outbox where more waits than it keeps in memory", () => {
    const { feed, followers, offer } = nodeAt(a)
    followers.add("a", { offer })
    const at = { ...look, from: midway({ at: a, to: b, id: 0n, last: b.last }, 3n) }
    for (let n = 0; n <= 1001; n++) {
      feed.receiveTick(feedFramesOf({ ...at, messages: [] }, reader, n, 10_000).tick)
    }
    expect([feed.untilRepair, feed.repairTo()?.normal]).toEqual([0, b.normal])
  })
})
