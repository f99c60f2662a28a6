/**
 * The bounded backlog of one socket.
 *
 * While the socket takes bytes, frames are written to it at once and nothing is kept. When it does
 * not, they wait here, in order. Events are counted in bytes, together with what the session's subscribers
 * hold. At the bound they are dropped: a live channel that lost some is told `gap slow` in their place, a
 * durable one goes on from its last frame that stays, one after the other, once the socket drained.
 * Control frames are never dropped, and counted apart: what no drop can free must not cause one at each
 * event. For the same reason no more than half of the bound outlasts a drop, but for the gaps.
 * Knows neither time nor fibers, and calls nobody: each method answers what became of it, and its
 * caller acts.
 */
import { encode } from "../../../Frame.ts"
import type { Batch } from "../hub/batch.ts"
import { Line, type Outgoing } from "../hub/outgoing.ts"
import type { Peer } from "./peer.ts"

/**
 * The most bytes of the backlog that are written at a time, unless a frame alone has more. A socket
 * drains when it took everything that was written: small pieces show that a slow link takes some.
 */
const sliceBytes = 64 * 1024

/** Where nothing waits, in all mailboxes: never changed. */
const none: Array<WaitingFrame> = []

/** What the mailbox needs of a peer. */
type Out = Pick<Peer, "write" | "writeAll" | "sizeOf" | "keep">

/** A control frame stands alone; a frame of events names its channel and its cursor. */
interface WaitingFrame {
  readonly message: Outgoing
  /** In bytes on the wire. */
  readonly size: number
  readonly channel: string | undefined
  /** Whether the channel goes on from a cursor. */
  readonly resumes: boolean
  /** The position before the frame, and after it. */
  readonly from: string
  readonly cursor: string
}

/**
 * What became of a batch: the socket has it; it waits, or a gap in its place that needed no drop; its
 * channel was behind already, and reads it again; it fell behind just now; or events were dropped, and
 * their channels are told.
 */
export type Outcome = "written" | "waits" | "behind" | "fell" | "dropped"

export class Mailbox {
  readonly #limit: number
  readonly #peer: Out
  /** Channels that go on from a cursor once their turn comes; until then nothing of them waits. */
  #behind: Map<string, string> | undefined
  #waiting: Array<WaitingFrame> = none
  /** Bytes of events and of control frames that wait. */
  #events = 0
  #answers = 0
  /** Bytes that subscribers hold. */
  #held = 0
  #blocked = false
  #onFull: (() => void) | undefined

  /** `limit`: bytes of events that may wait or be held. */
  constructor(peer: Out, limit: number) {
    this.#peer = peer
    this.#limit = limit
  }

  get blocked(): boolean {
    return this.#blocked
  }

  /** Whether channels are behind and the socket takes bytes: they go on by `nextBehind`. */
  get isBehind(): boolean {
    return !this.#blocked && this.#behind !== undefined
  }

  /** Wakes one waiter when the socket takes its fill; `undefined` when it waits no more. */
  onFull(wake: (() => void) | undefined): void {
    this.#onFull = wake
  }

  /** How many bytes of events more may wait. */
  get room(): number {
    return this.#limit - this.#events - this.#held
  }

  /** Bytes of control frames that wait: their bound is the session's. */
  get answers(): number {
    return this.#answers
  }

  /** Bytes that wait. */
  get bytes(): number {
    return this.#events + this.#answers
  }

  control(message: Outgoing): void {
    if (!this.#blocked) {
      if (!this.#peer.write(message)) this.#full()
      return
    }
    return this.#wait(this.#waitingOf(message, undefined, false, "", ""))
  }

  offer(batch: Batch): Outcome {
    // What follows a lost frame is read again with it.
    if (this.#behind?.has(batch.channel) === true) return "behind"
    // What most sockets do with most batches.
    if (!this.#blocked) {
      if (!this.#peer.write(batch)) this.#full()
      return "written"
    }
    const { channel, cursor, from, gap, resumes } = batch
    // A client that goes on from behind it does not read it again: it must be told.
    if (resumes && gap !== undefined && gap !== "invalid") {
      this.control(batch)
      return "waits"
    }
    const waiting = this.#waitingOf(batch, channel, resumes, from, cursor)
    const fits = waiting.size <= this.room
    if (!fits && resumes) {
      this.fallBehind(channel, from)
      return "fell"
    }
    this.#wait(waiting)
    if (fits) return "waits"
    this.#dropEvents()
    return "dropped"
  }

  /** Whether a message more is written at once or may wait. */
  hasRoom(message: Outgoing): boolean {
    return !this.#blocked || this.#peer.sizeOf(message) <= this.room
  }

  /**
   * Counts what is held elsewhere for this socket, and gives its bytes; 0, and not counted, when it is too
   * much: more than there is room, or than half of the bound, because no drop frees it.
   */
  hold(message: Outgoing): number {
    const bytes = this.#peer.sizeOf(this.#peer.keep(message))
    if (bytes > Math.min(this.room, this.#limit / 2 - this.#held)) return 0
    this.#held += bytes
    return bytes
  }

  /** So many bytes are held no more. */
  release(bytes: number): void {
    this.#held -= bytes
  }

  /** Drops what comes of a channel until its turn comes, on a drained socket; it goes on from `from`. */
  fallBehind(channel: string, from: string): void {
    this.#behind ??= new Map()
    this.#behind.set(channel, from)
  }

  /**
   * The channel that is behind for longest, and the position up to which it has everything; `undefined`
   * when there is none, or the socket takes nothing. What comes of the channel is written again.
   */
  nextBehind(): readonly [channel: string, from: string] | undefined {
    if (this.#blocked || this.#behind === undefined) return undefined
    const next = this.#behind.entries().next().value
    if (next === undefined) this.#behind = undefined
    else this.#behind.delete(next[0])
    return next
  }

  /** The channel was left: nothing of it is written any more, and whoever begins it again begins elsewhere. */
  forget(channel: string): void {
    this.#behind?.delete(channel)
    if (this.#waiting.length > 0) {
      this.#keep(this.#waiting.filter((item) => item.channel !== channel))
    }
  }

  /**
   * The socket wants bytes again: writes what waits, in order, until it is full again or nothing waits.
   * Answers whether channels are behind that can go on now.
   */
  drained(): boolean {
    while (this.#waiting.length > 0) {
      if (!this.#peer.writeAll(this.#nextSlice())) {
        this.#full()
        return false
      }
    }
    this.#waiting = none
    this.#blocked = false
    return this.isBehind
  }

  #nextSlice(): ReadonlyArray<Outgoing> {
    let bytes = this.#waiting[0]!.size
    let count = 1
    for (; count < this.#waiting.length; count++) {
      const more = this.#waiting[count]!.size
      if (bytes + more > sliceBytes) break
      bytes += more
    }
    const items = this.#waiting.splice(0, count)
    for (const item of items) this.#count(item, -1)
    return items.map(({ message }) => message)
  }

  #full(): void {
    this.#blocked = true
    this.#onFull?.()
  }

  #waitingOf(
    message: Outgoing,
    channel: string | undefined,
    resumes: boolean,
    from: string,
    cursor: string
  ): WaitingFrame {
    const kept = this.#peer.keep(message)
    return { message: kept, size: this.#peer.sizeOf(kept), channel, resumes, from, cursor }
  }

  #wait(item: WaitingFrame): void {
    if (this.#waiting === none) this.#waiting = [item]
    else this.#waiting.push(item)
    this.#count(item, 1)
  }

  #count({ channel, size }: WaitingFrame, sign: 1 | -1): void {
    if (channel === undefined) this.#answers += sign * size
    else this.#events += sign * size
  }

  /**
   * A live channel gets one gap, at its newest cursor, where its first frame stood. Durable channels keep
   * what fits into half of the bound, beside what is held, so that the next overflow is not at the next
   * frame.
   */
  #dropEvents(): void {
    const newest = new Map<string, string>()
    for (const { channel, cursor } of this.#waiting) {
      if (channel !== undefined) newest.set(channel, cursor)
    }
    const kept: Array<WaitingFrame> = []
    const told = new Set<string>()
    const fallen = new Set<string>()
    let stays = this.#held
    for (const item of this.#waiting) {
      const { channel, from, resumes } = item
      if (channel === undefined) kept.push(item)
      else if (resumes) {
        if (fallen.has(channel)) continue
        stays += item.size
        if (stays <= this.#limit / 2) kept.push(item)
        else {
          fallen.add(channel)
          // It may have been behind already, but from a later position.
          this.fallBehind(channel, from)
        }
      } else if (!told.has(channel)) {
        told.add(channel)
        const cursor = newest.get(channel)!
        const gap = new Line(encode({ type: "gap", channel, reason: "slow", cursor }))
        kept.push(this.#waitingOf(gap, channel, resumes, from, cursor))
      }
    }
    this.#keep(kept)
  }

  #keep(waiting: Array<WaitingFrame>): void {
    this.#waiting = waiting
    this.#events = this.#answers = 0
    for (const item of waiting) this.#count(item, 1)
  }
}
