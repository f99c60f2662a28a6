/**
 * The bounded backlog of one socket.
 *
 * While the socket takes bytes, frames are written to it at once. When it is full, they wait here in
 * order. The limit counts bytes of events, with what the session's subscribers hold. At the limit
 * events are dropped: a live channel receives `gap slow` in their place; durable channels resume from
 * the last frame that stays, one after the other, once the socket drained.
 *
 * Control frames are never dropped and are counted apart: they would otherwise cause a drop at each
 * event. For the same reason at most half of the limit, gaps apart, stays after a drop.
 *
 * Of volatile channels the newest event of each key waits. It is counted apart, and written when no other
 * frame waits.
 *
 * It uses neither time nor fibers, and calls only the peer: a method returns an outcome, and its caller
 * acts.
 */
import { encode } from "../../../Frame.ts"
import type { Batch } from "../hub/batch.ts"
import { Line, type Outgoing } from "../hub/outgoing.ts"
import { Tally } from "../tally.ts"
import type { Peer } from "./peer.ts"
import { VolatileBacklog } from "./volatileBacklog.ts"

/**
 * Bytes of the backlog written at a time, unless one frame is larger. A socket drains when it has taken
 * all that was written, so small slices show that a slow link takes some.
 */
const sliceBytes = 64 * 1024

/** The backlog of every mailbox where no frame waits; never changed. */
const none: Array<WaitingFrame> = []

/** The part of a peer that the mailbox uses. */
type Out = Pick<Peer, "write" | "writeAll" | "sizeOf" | "keep">

/** A frame that waits. A frame of events has a key and a cursor; a control frame has neither. */
interface WaitingFrame {
  readonly message: Outgoing
  /** In bytes on the wire. */
  readonly size: number
  /** Names the view of a subscription. */
  readonly key: string | undefined
  /** Whether the channel resumes from a cursor. */
  readonly resumes: boolean
  /** The position before the frame, and after it. */
  readonly from: string
  readonly cursor: string
}

/**
 * The outcome of a batch.
 *
 * - `written`: the socket has it.
 * - `waits`: it waits, or it is a gap that waits among the control frames.
 * - `behind`: its channel was behind before, and reads it again.
 * - `fell`: its channel fell behind just now.
 * - `dropped`: events were dropped, and their live channels receive a gap.
 */
export type Outcome = "written" | "waits" | "behind" | "fell" | "dropped"

export class Mailbox {
  readonly #limit: number
  readonly #volatileKeys: number
  readonly #peer: Out
  /** Counts the events and gaps that the session is sent. */
  readonly tally: Tally
  /** Channels that resume from a cursor at their turn; none of their frames waits until then. */
  #behind: Map<string, string> | undefined
  #waiting: Array<WaitingFrame> = none
  /** Bytes of waiting events, and of waiting control frames. */
  #events = 0
  #answers = 0
  /** Bytes that subscribers hold. */
  #held = 0
  #volatile: VolatileBacklog | undefined
  #blocked = false
  #onFull: (() => void) | undefined
  #onFree: Set<() => void> | undefined

  /**
   * `limit`: the most bytes of events that may wait or be held, and of volatile events that may wait.
   * `volatileKeys`: the most volatile events that may wait.
   */
  constructor(peer: Out, limit: number, volatileKeys: number, tally = new Tally()) {
    this.#peer = peer
    this.tally = tally
    this.#limit = limit
    this.#volatileKeys = volatileKeys
  }

  get blocked(): boolean {
    return this.#blocked
  }

  /** Whether channels are behind and the socket takes bytes, so that `nextBehind` returns one. */
  get isBehind(): boolean {
    return !this.#blocked && this.#behind !== undefined
  }

  /** Sets the callback for when the socket is full; `undefined` removes it. */
  onFull(wake: (() => void) | undefined): void {
    this.#onFull = wake
  }

  /** Calls `wake` once the socket takes bytes again. Its result prevents it. */
  onFree(wake: () => void): () => void {
    const waiting = (this.#onFree ??= new Set())
    waiting.add(wake)
    return () => void waiting.delete(wake)
  }

  /** Bytes of events for which there is room. */
  get room(): number {
    return this.#limit - this.#events - this.#held
  }

  /** Bytes of waiting control frames. The session bounds them. */
  get answers(): number {
    return this.#answers
  }

  /** Bytes of all waiting frames. */
  get bytes(): number {
    return this.#events + this.#answers + (this.#volatile?.bytes ?? 0)
  }

  control(message: Outgoing): void {
    if (!this.#blocked) {
      if (!this.#peer.write(message)) this.#full()
      return
    }
    return this.#wait(this.#waitingOf(message, undefined, false, "", ""))
  }

  offer(batch: Batch): Outcome {
    // A channel that is behind reads this batch again.
    if (this.#behind?.has(batch.key) === true) return "behind"
    // The usual case.
    if (!this.#blocked) {
      if (!this.#peer.write(batch)) this.#full()
      this.#told(batch)
      return "written"
    }
    const { cursor, from, gap, key, pieces, resumes } = batch
    if (pieces !== undefined) {
      const limits = { keys: this.#volatileKeys, bytes: this.#limit }
      this.#volatile ??= new VolatileBacklog(limits)
      this.#volatile.add(key, pieces)
      this.#told(batch)
      return "waits"
    }
    // A client that resumes after this gap would not read it again, so it must not be dropped.
    if (resumes && gap !== undefined && gap !== "invalid") {
      this.control(batch)
      this.#told(batch)
      return "waits"
    }
    const waiting = this.#waitingOf(batch, key, resumes, from, cursor)
    const fits = waiting.size <= this.room
    if (!fits && resumes) {
      this.fallBehind(key, from)
      return "fell"
    }
    this.#wait(waiting)
    this.#told(batch)
    if (fits) return "waits"
    this.#dropEvents()
    return "dropped"
  }

  /** Whether one more message would be written at once or has room to wait. */
  hasRoom(message: Outgoing): boolean {
    return !this.#blocked || this.#peer.sizeOf(message) <= this.room
  }

  /**
   * Counts a message that a subscriber holds, and returns its bytes. Returns 0, and does not count it,
   * if there is no room, or if more than half of the limit would be held, which no drop frees.
   */
  hold(message: Outgoing): number {
    const bytes = this.#peer.sizeOf(this.#peer.keep(message))
    if (bytes > Math.min(this.room, this.#limit / 2 - this.#held)) return 0
    this.#held += bytes
    return bytes
  }

  /** Ends the count of bytes that a subscriber held. */
  release(bytes: number): void {
    this.#held -= bytes
  }

  /** Drops later batches of a view until its turn, from which it resumes at `from`. */
  fallBehind(key: string, from: string): void {
    this.#behind ??= new Map()
    this.#behind.set(key, from)
  }

  /**
   * Takes the view that is behind for longest, with the position up to which the client has
   * everything; `undefined` if none is behind or the socket is full. Later batches of the view are
   * written again.
   */
  nextBehind(): readonly [key: string, from: string] | undefined {
    if (this.#blocked || this.#behind === undefined) return undefined
    const next = this.#behind.entries().next().value
    if (next === undefined) this.#behind = undefined
    else this.#behind.delete(next[0])
    return next
  }

  /** Drops every frame of a view that the client left. A new subscription starts elsewhere. */
  forget(key: string): void {
    this.#behind?.delete(key)
    this.#volatile?.forget(key)
    if (this.#waiting.length > 0) {
      this.#keep(this.#waiting.filter((item) => item.key !== key))
    }
  }

  /**
   * Writes waiting frames in order, after a drain, until the socket is full or none waits. Returns
   * whether channels are behind that can go on now.
   */
  drained(): boolean {
    while (this.#waiting.length > 0) {
      if (!this.#peer.writeAll(this.#nextSlice())) {
        this.#full()
        return false
      }
    }
    this.#waiting = none
    let next: Outgoing | undefined
    while ((next = this.#volatile?.next(sliceBytes)) !== undefined) {
      if (!this.#peer.write(next)) {
        this.#full()
        return false
      }
    }
    this.#volatile = undefined
    this.#blocked = false
    const free = this.#onFree
    this.#onFree = undefined
    if (free !== undefined) for (const wake of free) wake()
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

  #told({ count, gap }: Batch): void {
    this.tally.eventsOut += count
    if (gap !== undefined) this.tally.gaps[gap]++
  }

  #full(): void {
    this.#blocked = true
    this.#onFull?.()
  }

  #waitingOf(
    message: Outgoing,
    key: string | undefined,
    resumes: boolean,
    from: string,
    cursor: string
  ): WaitingFrame {
    const kept = this.#peer.keep(message)
    return { message: kept, size: this.#peer.sizeOf(kept), key, resumes, from, cursor }
  }

  #wait(item: WaitingFrame): void {
    if (this.#waiting === none) this.#waiting = [item]
    else this.#waiting.push(item)
    this.#count(item, 1)
  }

  #count({ key, size }: WaitingFrame, sign: 1 | -1): void {
    if (key === undefined) this.#answers += sign * size
    else this.#events += sign * size
  }

  /**
   * Drops waiting events. A live channel gets one gap, at its newest cursor, in place of its first
   * frame. Durable channels keep what fits into half of the limit, with what is held, so that the next
   * frame does not overflow again.
   */
  #dropEvents(): void {
    const newest = new Map<string, string>()
    for (const { cursor, key } of this.#waiting) {
      if (key !== undefined) newest.set(key, cursor)
    }
    const kept: Array<WaitingFrame> = []
    const told = new Set<string>()
    const fallen = new Set<string>()
    let stays = this.#held
    for (const item of this.#waiting) {
      const { from, key, resumes } = item
      if (key === undefined) kept.push(item)
      else if (resumes) {
        if (fallen.has(key)) continue
        stays += item.size
        if (stays <= this.#limit / 2) kept.push(item)
        else {
          fallen.add(key)
          // The channel may be behind already, from a later position.
          this.fallBehind(key, from)
        }
      } else if (!told.has(key)) {
        told.add(key)
        this.tally.gaps.slow++
        const cursor = newest.get(key)!
        // A live channel has no filters, so the key is its name.
        const gap = new Line(encode({ type: "gap", channel: key, reason: "slow", cursor }))
        kept.push(this.#waitingOf(gap, key, resumes, from, cursor))
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
