/**
 * Joins the pieces of messages that fit into no envelope. What does not get whole is forgotten.
 */
import type { Node } from "../../NodeBus.ts"
import type { MessagePiece } from "./envelope.ts"

/** The largest message, in bytes of JSON. */
export const maxMessageBytes = 1_048_576

/** Bytes of unfinished messages that a node keeps of all senders together. */
const maxHeldBytes = 16 * 1_048_576

/** Milliseconds until an unfinished message is forgotten. */
const patience = 30_000

interface Unfinished {
  readonly pieces: Array<Buffer | undefined>
  readonly since: number
  missing: number
  bytes: number
}

export class Pieces {
  /** By sender and message. Insertion order is age. */
  readonly #unfinished = new Map<string, Unfinished>()
  #bytes = 0

  /** Adds a piece. Returns the whole message with its last piece. `now`: of the monotonic clock. */
  add(
    { incarnation }: Node,
    { bytes, count, id, index }: MessagePiece,
    now: number
  ): Buffer | undefined {
    if (!(count > 0 && count <= maxMessageBytes && index >= 0 && index < count)) return undefined
    const name = `${incarnation} ${id}`
    let one = this.#unfinished.get(name)
    if (one === undefined) {
      one = { pieces: Array.from({ length: count }), since: now, missing: count, bytes: 0 }
      this.#unfinished.set(name, one)
    }
    if (one.pieces.length !== count || one.pieces[index] !== undefined) return undefined
    one.pieces[index] = bytes
    one.missing--
    one.bytes += bytes.length
    this.#bytes += bytes.length
    if (one.missing === 0) {
      this.#forget(name, one)
      return Buffer.concat(one.pieces.map((piece) => piece!))
    }
    if (one.bytes > maxMessageBytes) this.#forget(name, one)
    return undefined
  }

  /** Forgets what is old or too much. Returns how many messages. */
  sweep(now: number): number {
    let count = 0
    for (const [name, one] of this.#unfinished) {
      if (now - one.since < patience && this.#bytes <= maxHeldBytes) break
      this.#forget(name, one)
      count++
    }
    return count
  }

  #forget(name: string, one: Unfinished): void {
    this.#unfinished.delete(name)
    this.#bytes -= one.bytes
  }
}
