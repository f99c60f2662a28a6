/**
 * The bounded backlog of one socket.
 *
 * While the socket takes bytes, frames are written to it at once and nothing is kept. When it does
 * not, they wait here, in order, counted in bytes. At the bound the waiting events are dropped: a live
 * channel that lost some is told `gap slow` in their place, a durable one goes on from its last written
 * cursor once the socket drained. Control frames are never dropped.
 * Knows neither time nor fibers: the session awaits the drain and decides how long to be patient.
 */
import { encode } from "../../Frame.ts"
import type { Batch } from "./batch.ts"
import { lasting, textFrame } from "./frames.ts"
import type { Peer } from "./peer.ts"

/** A control frame stands alone; a frame of events names its channel and its cursor. */
interface Waiting {
  readonly frame: Buffer
  readonly channel: string | undefined
  /** The position before the frame, and after it. */
  readonly from: string
  readonly cursor: string
}

export class Mailbox {
  /** Bytes of frames that may wait. */
  readonly limit: number
  readonly #peer: Pick<Peer, "write">
  readonly #onBlocked: () => void
  readonly #onDropped: () => void
  readonly #resumes: (channel: string) => boolean
  readonly #onBehind: (channel: string, from: string) => void
  /** Durable channels that lost frames, with the last cursor that was written. */
  readonly #behind = new Map<string, string>()
  #waiting: Array<Waiting> = []
  #bytes = 0
  #blocked = false

  constructor(options: {
    readonly peer: Pick<Peer, "write">
    /** Bytes of frames that may wait. */
    readonly limit: number
    /** The socket took its fill: call `drained` when it wants more. */
    readonly onBlocked: () => void
    readonly onDropped: () => void
    /** Whether a channel can go on from a cursor: then it is told no gap, but `onBehind` is called. */
    readonly resumes: (channel: string) => boolean
    /** The socket drained: the channel has everything up to `from` and nothing after it. */
    readonly onBehind: (channel: string, from: string) => void
  }) {
    this.#peer = options.peer
    this.limit = options.limit
    this.#onBlocked = options.onBlocked
    this.#onDropped = options.onDropped
    this.#resumes = options.resumes
    this.#onBehind = options.onBehind
  }

  get blocked(): boolean {
    return this.#blocked
  }

  /** Bytes that wait. */
  get bytes(): number {
    return this.#bytes
  }

  control(frame: Buffer): void {
    if (this.#blocked) {
      this.#wait({ frame: lasting(frame), channel: undefined, from: "", cursor: "" })
    } else this.#send(frame)
  }

  offer(batch: Batch): void {
    // What most sockets do with most batches.
    if (!this.#blocked) {
      if (!this.#peer.write(batch.frame)) this.#full()
      return
    }
    const { channel, cursor, from, lastingFrame: frame } = batch
    // What follows a lost frame is read again with it.
    if (this.#behind.has(channel)) return
    this.#wait({ frame, channel, from, cursor })
    if (this.#bytes > this.limit) this.#dropEvents()
  }

  /** The socket wants bytes again: writes what waits, in order, and may be blocked again at once. */
  drained(): void {
    const frames = this.#waiting.map((item) => item.frame)
    this.#replace([])
    this.#blocked = false
    // One write: what waited is bounded, and the kernel takes it in one piece.
    if (frames.length > 0) this.#send(frames.length === 1 ? frames[0]! : Buffer.concat(frames))
    const behind = [...this.#behind]
    this.#behind.clear()
    for (const [channel, from] of behind) this.#onBehind(channel, from)
  }

  #send(frame: Buffer): void {
    if (!this.#peer.write(frame)) this.#full()
  }

  #full(): void {
    this.#blocked = true
    this.#onBlocked()
  }

  #wait(item: Waiting): void {
    this.#waiting.push(item)
    this.#bytes += item.frame.length
  }

  /** A live channel gets one gap, at its newest cursor, where its first frame stood. */
  #dropEvents(): void {
    const newest = new Map<string, string>()
    for (const { channel, cursor } of this.#waiting) {
      if (channel !== undefined) newest.set(channel, cursor)
    }
    const kept: Array<Waiting> = []
    const told = new Set<string>()
    for (const item of this.#waiting) {
      const { channel, from } = item
      if (channel === undefined) kept.push(item)
      else if (!told.has(channel)) {
        told.add(channel)
        if (this.#resumes(channel)) {
          this.#behind.set(channel, from)
          continue
        }
        const cursor = newest.get(channel)!
        const frame = lasting(textFrame(encode({ type: "gap", channel, reason: "slow", cursor })))
        kept.push({ frame, channel, from, cursor })
      }
    }
    this.#replace(kept)
    this.#onDropped()
  }

  #replace(waiting: Array<Waiting>): void {
    this.#waiting = waiting
    this.#bytes = waiting.reduce((sum, item) => sum + item.frame.length, 0)
  }
}
