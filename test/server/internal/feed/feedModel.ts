/**
 * An outbox in memory with readers, nodes and a network that loses, doubles, reorders and delays, all in
 * one thread under a clock of its own. Frames, positions and followers are those of the library.
 */
import * as Cursor from "../../../../src/internal/cursorText.ts"
import { feedFramesOf } from "../../../../src/server/internal/feed/feedFrames.ts"
import { FeedNode } from "../../../../src/server/internal/feed/feedNode.ts"
import type { Look } from "../../../../src/server/internal/outbox/look.ts"
import type { Message, Take } from "../../../../src/server/internal/outbox/outbox.ts"
import {
  endOf,
  formatPosition,
  legs,
  midway,
  type NodePosition,
  placeOf
} from "../../../../src/server/internal/outbox/position.ts"
import { Followers, type Item, Tail } from "../../../../src/server/internal/outbox/tail.ts"
import type { Random } from "../../support/random.ts"

export const identity = "abcdefgh"
const era = "era"
const channels = ["a", "b", "c", "d", "e"]

/** A page has a few messages, and a long one fits in none. */
const maxBytes = 1200

const limits = { events: 256, maxAge: 60_000, bytes: 1024 * 1024 }

/** The table of messages, with transactions that commit in any order. */
export class Table {
  #next = 100n
  #id = 0
  readonly #running = new Set<bigint>()
  readonly #rows: Array<Message> = []

  begin(): bigint {
    const tx = this.#next++
    this.#running.add(tx)
    return tx
  }

  write(tx: bigint, channel: string, long: boolean): void {
    const id = String(++this.#id)
    const text = `{"id":${id},"fill":"é\n${long ? "x".repeat(maxBytes) : ""}"}`
    this.#rows.push({ id, tx: String(tx), channel, text, at: 0 })
  }

  end(tx: bigint, commits: boolean): void {
    this.#running.delete(tx)
    if (commits) return
    for (let index = this.#rows.length - 1; index >= 0; index--) {
      if (this.#rows[index]!.tx === String(tx)) this.#rows.splice(index, 1)
    }
  }

  take(): Take {
    const running = [...this.#running].toSorted((a, b) => (a < b ? -1 : 1))
    const snapshot = Cursor.parseSnapshot(Cursor.formatSnapshot({ xmax: this.#next, running }))!
    let last: Cursor.Witness = { tx: 0n, id: 0n, at: 0n }
    for (const { id, tx } of this.#rows) {
      if (!Cursor.visible(snapshot, BigInt(tx)) || BigInt(tx) < last.tx) continue
      if (BigInt(tx) > last.tx || BigInt(id) > last.id) {
        last = { tx: BigInt(tx), id: BigInt(id), at: 1n }
      }
    }
    const pair = { next: this.#next, drawn: BigInt(this.#id), era, written: "0/0" }
    return { ...placeOf(snapshot, last), ...pair }
  }

  /** The messages of some channels between two positions, as each one's cursor says it. */
  between(from: Cursor.Position, to: Cursor.Position, of: (channel: string) => boolean) {
    return this.#rows.filter(
      ({ channel, id, tx }) =>
        of(channel) &&
        !Cursor.seen(from, BigInt(tx), BigInt(id)) &&
        Cursor.seen(to, BigInt(tx), BigInt(id))
    )
  }

  /** The looks from a position to an end, in pages. */
  *pages(from: NodePosition, end: Take, of: Look["channels"], most: number): Generator<Look> {
    let at = from
    for (const leg of legs(from, end)) {
      let { id } = leg
      while (true) {
        const rest = this.between(
          { base: leg.at.normal, next: id === 0n ? undefined : leg.to.normal, id },
          Cursor.whole(leg.to.normal),
          (channel) => of === "all" || of.includes(channel)
        )
        const messages = rest.slice(0, most)
        if (messages.length > 0) id = BigInt(messages.at(-1)!.id)
        const to = rest.length > most ? midway(leg, id) : endOf(leg)
        yield { from: at, to, end, channels: of, messages }
        at = to
        if (rest.length <= most) break
      }
    }
  }
}

/** What a subscriber has received, from a position on. */
interface Subscriber {
  readonly channel: string
  readonly from: Cursor.Position
  to: Cursor.Position
  readonly got: Array<Message["id"]>
  readonly leave: () => void
}

const positionOf = (cursor: string) => Cursor.parseDurable(cursor)!.position

/** Changes the frames that a node receives, as a node without one of the rules would read them. */
export type Mutant = "none" | "any from" | "uncounted" | "by number"

/** A faulty count, or an event that is missing, doubled, invented or out of order. */
interface Verdict {
  lost: number
  doubled: number
  /** Events that do not belong to the segment. */
  phantom: number
  segments: number
  delivered: number
}

export class Host {
  readonly followers = new Followers(limits)
  readonly tail: Tail
  readonly table: Table
  readonly subscribers = new Set<Subscriber>()

  constructor(table: Table) {
    this.table = table
    this.tail = new Tail(identity, era, table.take(), 1, [])
  }

  /** A subscriber at a cursor or at the present, as a session joins. */
  join(channel: string, cursor: string | undefined): void {
    const { tail } = this
    const from = cursor === undefined ? undefined : positionOf(cursor)
    if (from !== undefined && !Cursor.dominates(tail.taken.normal, from)) return
    const start = positionOf(tail.end)
    const first = tail.tick
    const subscriber: Subscriber = {
      channel,
      from: from ?? start,
      to: start,
      got: this.table.between(from ?? start, start, (name) => name === channel).map(({ id }) => id),
      leave: () => this.followers.remove(channel, follower)
    }
    const follower = {
      offer: (item: Item) => {
        if (item.tick <= first) return
        if (item._tag === "Batch") for (const { id } of item.events) subscriber.got.push(id)
        subscriber.to = positionOf(item.cursor)
      }
    }
    this.followers.add(channel, follower)
    this.subscribers.add(subscriber)
  }

  leave(subscriber: Subscriber, verdict: Verdict): void {
    subscriber.leave()
    this.subscribers.delete(subscriber)
    // The position of the node, which its quiet channels have too.
    const { channel, from, got } = subscriber
    const wanted = this.table
      .between(from, subscriber.to, (name) => name === channel)
      .map(({ id }) => id)
    const expected = new Set(wanted)
    verdict.segments++
    verdict.delivered += got.length
    verdict.lost += wanted.filter((id) => !got.includes(id)).length
    verdict.phantom += got.filter((id) => !expected.has(id)).length
    verdict.doubled += got.length - new Set(got).size
  }
}

/** The elected reader, or one that believes to be it. */
export class Reader extends Host {
  readonly name: string
  readonly term: number
  readonly #page: number
  #n = 0
  /** Does nothing until then. */
  stopped = 0

  constructor(table: Table, name: string, term: number, page: number) {
    super(table)
    this.name = name
    this.term = term
    this.#page = page
  }

  /** Looks, and returns the frames. */
  look(): ReadonlyArray<Frame> {
    const { followers, name: reader, tail, term } = this
    const frames: Array<Frame> = []
    for (const look of this.table.pages(tail.position, this.table.take(), "all", this.#page)) {
      followers.look(tail, look, 0)
      const { pages, tick } = feedFramesOf(look, { identity, reader, term }, this.#n++, maxBytes)
      frames.push({ text: tick, channel: undefined })
      for (const { channel, text } of pages) frames.push({ text, channel })
    }
    return frames
  }
}

export interface Frame {
  readonly text: string
  /** The channel of a page; `undefined` for a tick. */
  readonly channel: string | undefined
}

class Node extends Host {
  readonly feed: FeedNode
  readonly #mutant: Mutant
  readonly #seen = new Map<string, number>()
  /** The read of the session that is under way, by pages. */
  #reading: Iterator<Look> | undefined

  constructor(table: Table, now: () => number, random: Random, mutant: Mutant) {
    super(table)
    this.#mutant = mutant
    this.feed = new FeedNode({
      tail: () => this.tail,
      followers: this.followers,
      now,
      time: () => 0,
      random: random.next
    })
  }

  receive({ channel, text }: Frame): void {
    if (channel !== undefined && !this.followers.channels.includes(channel)) return
    const frame = this.#mutated(text, channel)
    if (channel === undefined) this.feed.receiveTick(frame)
    else this.feed.receivePage(frame)
  }

  #mutated(text: string, channel: string | undefined): string {
    if (this.#mutant === "none") return text
    const [head = "", ...rest] = text.split("\n")
    const frame = JSON.parse(head) as Record<string, unknown>
    if (this.#mutant === "by number") frame["r"] = "any"
    if (this.#mutant === "any from" && channel === undefined) {
      frame["a"] = formatPosition(identity, this.tail.position)
    }
    if (this.#mutant === "uncounted") {
      const key = `${String(frame["r"])} ${String(frame["n"])} `
      if (channel === undefined) {
        frame["ch"] = channels.flatMap((name) => {
          const count = this.#seen.get(key + name)
          return count === undefined ? [] : [[name, count]]
        })
      } else this.#seen.set(key + channel, (this.#seen.get(key + channel) ?? 0) + 1)
    }
    return [JSON.stringify(frame), ...rest].join("\n")
  }

  /** One step of the session: a page of what it reads, or the beginning of a read. */
  step(page: number): void {
    const { feed, followers, tail } = this
    if (this.#reading === undefined) {
      const end =
        feed.isFed || !tail.finished
          ? feed.untilRepair === 0
            ? feed.repairTo()
            : undefined
          : this.table.take()
      if (end === undefined) return
      feed.busy = true
      this.#reading = this.#read(end, page)
    }
    const next = this.#reading.next()
    if (next.done === true) {
      this.#reading = undefined
      feed.busy = false
    } else followers.look(tail, next.value, 0)
  }

  /** First the tick in progress, then everything up to the end. */
  *#read(end: Take, page: number): Generator<Look> {
    const { followers, table, tail } = this
    if (!tail.finished) {
      yield* table.pages(tail.position, tail.taken, tail.channels, page)
      if (!tail.finished) followers.finish(tail)
    }
    if (!Cursor.contains(end.normal, tail.taken.normal)) return
    yield* table.pages(tail.position, end, followers.channels, page)
  }
}

/** Plays a random history; `mutant`: the rule that the nodes lack. */
export const play = (random: Random, mutant: Mutant, steps: number) => {
  const verdict: Verdict = { lost: 0, doubled: 0, phantom: 0, segments: 0, delivered: 0 }
  let now = 0
  const table = new Table()
  const page = 3
  const nodes = [0, 1, 2].map(() => new Node(table, () => now, random, mutant))
  let term = 1
  let readers = [new Reader(table, "1.r", term, page)]
  const open: Array<bigint> = []
  const flying: Array<{ readonly at: number; readonly node: Node; readonly frame: Frame }> = []
  const cursors: Array<string> = []
  const faults = { drop: 0.1, double: 0.05, delay: 0.3 }

  const send = (frames: ReadonlyArray<Frame>) => {
    for (const node of nodes) {
      for (const frame of frames) {
        for (let copies = random.chance(faults.double) ? 2 : 1; copies > 0; copies--) {
          if (random.chance(faults.drop)) continue
          const late = random.chance(faults.delay) ? random.int(120) : random.int(3)
          flying.push({ at: now + late, node, frame })
        }
      }
    }
  }
  const arrive = () => {
    for (const { frame, node } of flying.filter(({ at }) => at <= now)) node.receive(frame)
    const rest = flying.filter(({ at }) => at > now)
    flying.length = 0
    flying.push(...rest)
  }
  const write = () => {
    if (random.chance(0.3) || open.length === 0) open.push(table.begin())
    const tx = random.pick(open)
    if (random.chance(0.7)) table.write(tx, random.pick(channels), random.chance(0.01))
    if (random.chance(0.4)) {
      open.splice(open.indexOf(tx), 1)
      table.end(tx, random.chance(0.85))
    }
  }

  for (let step = 0; step < steps; step++) {
    now += 1 + random.int(10)
    // At times many writes at once, so that ticks begin and end in the middle of a difference.
    for (let writes = random.chance(0.05) ? 25 : random.int(3); writes > 0; writes--) write()
    for (const reader of readers) {
      if (now >= reader.stopped && random.chance(0.4)) send(reader.look())
    }
    if (random.chance(0.02)) random.pick(readers).stopped = now + random.int(3000)
    // The next holder of the lease, which heard the ticks; the one before may go on for a while.
    if (random.chance(0.01)) {
      term++
      readers = [...readers.slice(-1), new Reader(table, `${term}.r`, term, page)]
    }
    if (readers.length > 1 && random.chance(0.05)) readers = readers.slice(-1)
    arrive()
    for (const node of nodes) {
      if (random.chance(0.6)) node.step(page)
      if (random.chance(0.05)) cursors.push(node.tail.end)
      if (cursors.length > 10) cursors.shift()
      if (random.chance(0.1)) {
        node.join(
          random.pick(channels),
          random.chance(0.5) ? undefined : random.pick([...cursors, undefined])
        )
      }
      if (node.subscribers.size > 0 && random.chance(0.05)) {
        node.leave(random.pick([...node.subscribers]), verdict)
      }
    }
  }
  // The faults end: every node reaches the present, fed.
  faults.drop = 0
  faults.double = 0
  faults.delay = 0
  for (const tx of open) table.end(tx, true)
  const last = readers.at(-1)!
  last.stopped = 0
  for (let step = 0; step < 400; step++) {
    now += 10
    send(last.look())
    arrive()
    for (const node of nodes) node.step(page)
  }
  const end = table.take()
  const behind = nodes.filter(({ tail }) => !Cursor.contains(tail.position.base.normal, end.normal))
  for (const node of nodes) {
    for (const subscriber of node.subscribers) {
      // A quiet channel is where its node is.
      subscriber.to = positionOf(node.tail.end)
      node.leave(subscriber, verdict)
    }
  }
  const counts = nodes.map(({ feed }) => feed.counts)
  return {
    ...verdict,
    behind: behind.length,
    fed: counts.reduce((sum, { fed }) => sum + fed, 0),
    repaired: counts.reduce((sum, { repaired }) => sum + repaired, 0),
    refused: counts.reduce((sum, { refused }) => sum + refused, 0)
  }
}
