/**
 * A node that is fed: it takes ticks of the elected reader in the place of looks of its own.
 *
 * In: ticks and pages, in any order, lost or doubled, of any number of readers. Out: looks, handed to the
 * node's followers, the position to which its session must read where anything is missing, and that the node
 * is at the present where nothing is new. All of it is synchronous, so followers and position always agree.
 *
 * What makes it exact: a tick is handed out only if it begins where the node stands, and only with every
 * page of the channels that are followed here. Everything else is read from the outbox, up to the end of
 * the newest tick. So two readers at once cost reads, and never an event.
 */
import * as Cursor from "../../../internal/cursorText.ts"
import type { Message, Take } from "../outbox/outbox.ts"
import { formatPosition, type NodePosition, whole } from "../outbox/position.ts"
import type { Followers, Tail } from "../outbox/tail.ts"
import { parsePageFrame, parseTick, type Tick } from "./feedFrames.ts"

/** Milliseconds that a tick may wait for what is missing. */
const patience = 40
/** Milliseconds without a tick after which a node reads for itself, and as much again at random. */
const silence = 1000
/** Milliseconds after which pages without a tick are dropped. */
const orphanAge = 5000
/** With more channels than this followed, a read is one of all messages. */
const manyChannels = 64
/** What may wait in memory, in characters and in ticks. Beyond it the node reads the outbox. */
const maxWaiting = { text: 32 * 1024 * 1024, slots: 1000 }

/** A tick, its pages, or both. */
interface Slot {
  tick: Tick | undefined
  readonly pages: Map<string, Map<number, ReadonlyArray<Message>>>
  /** When its first frame arrived, in milliseconds of the monotonic clock. */
  readonly at: number
  /** When its tick arrived. */
  tickAt: number
  size: number
}

/** What a node has done so far. */
interface FeedCounts {
  /** Ticks handed out without a read. */
  fed: number
  /** Positions to which the session read because something was missing. */
  repaired: number
  /** Ticks of an earlier term, or of another database. */
  refused: number
}

interface FeedHost {
  /** Where the node stands; `undefined` before its first position. */
  readonly tail: () => Tail | undefined
  readonly followers: Followers
  /** Milliseconds of the monotonic clock. */
  readonly now: () => number
  /** Milliseconds since 1970. */
  readonly time: () => number
  /** From 0 to 1. */
  readonly random: () => number
}

/** Whether everything up to a position was handed out by a node at another one. */
const covers = ({ base, id, next }: NodePosition, { position }: Cursor.DurableCursor): boolean => {
  if (Cursor.dominates(base.normal, position)) return true
  return (
    next !== undefined &&
    position.next !== undefined &&
    position.id <= id &&
    isSame(base.normal, position.base) &&
    isSame(next.normal, position.next)
  )
}

const isSame = (a: Cursor.PgSnapshot, b: Cursor.PgSnapshot): boolean =>
  Cursor.contains(a, b) && Cursor.contains(b, a)

/** Ids are decimal texts: a longer one is higher. */
const byId = ({ id: a }: Message, { id: b }: Message): number =>
  a.length === b.length ? (a < b ? -1 : a > b ? 1 : 0) : a.length - b.length

export class FeedNode {
  readonly #host: FeedHost
  readonly #slots = new Map<string, Slot>()
  #waiting = 0
  /** The highest term in this era. */
  #term = 0
  #era = ""
  /** The newest tick of the reader that was heard last. */
  #heard: Pick<Tick, "reader" | "n"> | undefined
  /** The end of the newest tick: where a repair leads. */
  #newest: Take | undefined
  /** Whether more arrived than may wait. */
  #flooded = false
  /** Until when the node waits for a tick. */
  #silentAt = -Infinity
  /** The text of the position for which it was written. */
  #here: { readonly position: NodePosition; readonly text: string } | undefined
  /** While the session reads, nothing is handed out here. */
  #busy = false
  readonly counts: FeedCounts = { fed: 0, repaired: 0, refused: 0 }
  /** Runs when there may be work for the session. */
  onWork: () => void = () => undefined

  constructor(host: FeedHost) {
    this.#host = host
  }

  /** Whether ticks arrive. If not, the node reads for itself. */
  get isFed(): boolean {
    return this.#host.now() < this.#silentAt
  }

  /** Milliseconds until the node reads for itself if no tick arrives. */
  get untilSilent(): number {
    return this.#silentAt - this.#host.now()
  }

  set busy(value: boolean) {
    this.#busy = value
    if (!value) this.#advance()
  }

  receiveTick(text: string): void {
    const tail = this.#host.tail()
    const tick = parseTick(text)
    if (tail === undefined || tick === undefined) return
    // Its positions mean something else in another database, and its numbers in another era.
    if (tick.to.identity !== tail.identity || tick.end.era !== tail.era) {
      this.counts.refused++
      return
    }
    if (this.#era !== tail.era) {
      this.#era = tail.era
      this.#term = 0
      this.#heard = undefined
    }
    // This only saves reads: a reader that was overtaken says nothing wrong.
    if (tick.term < this.#term) {
      this.counts.refused++
      return
    }
    this.#term = tick.term
    const now = this.#host.now()
    const isNew = this.#heard?.reader !== tick.reader || tick.n > this.#heard.n
    if (isNew) {
      this.#heard = { reader: tick.reader, n: tick.n }
      this.#silentAt = now + silence * (1 + this.#host.random())
    }
    tail.floors.add(tick.end.next, tick.end.drawn)
    if (covers(tail.position, tick.to)) {
      // Nothing is new: this node has all that the last look of the reader could see. A late tick, or one
      // that ends in the middle of a look, does not say so; nor do others while a look of this node goes on.
      if (isNew && tail.finished && tick.to.position.next === undefined) {
        this.#host.followers.onPresent()
      }
      return
    }
    const slot = this.#slotOf(tick.reader, tick.n, now)
    if (slot === undefined || slot.tick !== undefined) return
    slot.tick = tick
    slot.tickAt = now
    const newest = this.#newest
    if (newest === undefined || Cursor.contains(tick.end.normal, newest.normal)) {
      this.#newest = tick.end
    }
    this.#advance()
    this.onWork()
  }

  receivePage(text: string): void {
    const page = parsePageFrame(text)
    if (page === undefined || this.#host.tail() === undefined) return
    const slot = this.#slotOf(page.reader, page.n, this.#host.now())
    if (slot === undefined) return
    let pages = slot.pages.get(page.channel)
    if (pages === undefined) slot.pages.set(page.channel, (pages = new Map()))
    if (pages.has(page.k)) return
    pages.set(page.k, page.messages)
    slot.size += page.size
    this.#waiting += page.size
    if (this.#waiting > maxWaiting.text) this.#flood()
    else this.#advance()
  }

  /**
   * Milliseconds until the session must read the outbox, because something is missing; 0 for now, and
   * `undefined` where nothing is.
   */
  get untilRepair(): number | undefined {
    const tail = this.#host.tail()
    if (tail === undefined || this.#newest === undefined) return undefined
    this.#clean(tail)
    const now = this.#host.now()
    let least: number | undefined = this.#flooded ? 0 : undefined
    for (const { tick, tickAt } of this.#slots.values()) {
      if (tick === undefined) continue
      const left = this.#mustRead(tick, tail) ? 0 : Math.max(0, tickAt + patience - now)
      if (least === undefined || left < least) least = left
    }
    return least
  }

  /** The end to which the session reads. It contains the end of the tick in progress. */
  repairTo(): Take | undefined {
    const tail = this.#host.tail()
    const newest = this.#newest
    this.#flooded = false
    if (tail === undefined || newest === undefined) return undefined
    if (!Cursor.contains(newest.normal, tail.taken.normal)) {
      // Of another history, or behind what the node has begun: its own look decides.
      this.#slots.clear()
      this.#waiting = 0
      this.#newest = undefined
      return undefined
    }
    this.counts.repaired++
    return newest
  }

  /** Whether no page that travels can complete this tick, and it is the next one. */
  #mustRead(tick: Tick, tail: Tail): boolean {
    if (tick.from !== this.#text(tail)) return false
    if (tick.omitted) return true
    const { followers } = this.#host
    for (const [channel, count] of tick.channels)
      if (count === 0 && followers.reads(channel)) return true
    return false
  }

  #text(tail: Tail): string {
    const { position } = tail
    if (this.#here?.position !== position) {
      this.#here = { position, text: formatPosition(tail.identity, position) }
    }
    return this.#here.text
  }

  #slotOf(reader: string, n: number, now: number): Slot | undefined {
    const key = `${reader} ${n}`
    let slot = this.#slots.get(key)
    if (slot === undefined) {
      if (this.#slots.size >= maxWaiting.slots) {
        this.#flood()
        return undefined
      }
      slot = { tick: undefined, pages: new Map(), at: now, tickAt: now, size: 0 }
      this.#slots.set(key, slot)
    }
    return slot
  }

  /** Too much waits: the session reads all of it. */
  #flood(): void {
    this.#slots.clear()
    this.#waiting = 0
    this.#flooded = this.#newest !== undefined
    this.onWork()
  }

  /** Drops what the node has handed out, and pages whose tick did not arrive. */
  #clean(tail: Tail): void {
    const now = this.#host.now()
    for (const [key, { at, size, tick }] of this.#slots) {
      if (tick === undefined ? now - at < orphanAge : !covers(tail.position, tick.to)) continue
      this.#slots.delete(key)
      this.#waiting -= size
    }
  }

  /** Hands out every tick that begins where the node stands. */
  #advance(): void {
    const tail = this.#host.tail()
    if (tail === undefined || this.#busy) return
    let fed = false
    for (let next = this.#next(tail); next !== undefined; next = this.#next(tail)) {
      const { key, messages, tick } = next
      // Before anything else, so that no tick is handed out twice.
      this.#waiting -= this.#slots.get(key)!.size
      this.#slots.delete(key)
      this.#hand(tail, tick, messages)
      this.counts.fed++
      fed = true
    }
    if (fed) this.#clean(tail)
  }

  /** A complete tick that begins where the node stands. */
  #next(tail: Tail) {
    const here = this.#text(tail)
    for (const [key, slot] of this.#slots) {
      const { tick } = slot
      if (tick?.from !== here || covers(tail.position, tick.to)) continue
      // Followers have attached at the end of the tick in progress: it is finished to that end first.
      if (!tail.finished && !isSame(tick.end.normal, tail.taken.normal)) continue
      const messages = this.#messages(tick, slot)
      if (messages !== undefined) return { key, tick, messages }
    }
    return undefined
  }

  /** The messages of a tick on the channels that are followed here; `undefined` while pages are missing. */
  #messages(tick: Tick, slot: Slot): ReadonlyArray<Message> | undefined {
    if (tick.omitted) return undefined
    const found: Array<Message> = []
    for (const [channel, count] of tick.channels) {
      if (!this.#host.followers.reads(channel)) continue
      const pages = slot.pages.get(channel)
      if (count === 0 || (pages?.size ?? 0) < count) return undefined
      for (let k = 0; k < count; k++) {
        const messages = pages!.get(k)
        if (messages === undefined) return undefined
        found.push(...messages)
      }
    }
    return found.toSorted(byId)
  }

  #hand(tail: Tail, tick: Tick, messages: ReadonlyArray<Message>): void {
    const { followers, time } = this.#host
    const end = tail.finished ? tick.end : tail.taken
    const { position } = tick.to
    const from = tail.position
    const to: NodePosition =
      position.next === undefined
        ? whole(end)
        : {
            base: from.base,
            next: { snapshot: end.snapshot, normal: end.normal },
            id: position.id,
            last: end.last
          }
    // A session that has to finish the tick reads these.
    const channels = followers.size > manyChannels ? "all" : followers.channels
    followers.look(tail, { from, to, end, channels, messages }, time())
  }
}
