/**
 * What waits for one socket of its volatile channels: the newest event of each key.
 *
 * The mailbox counts it apart, so that it drops and delays no event of another channel.
 */
import { encodeEvents } from "../../../internal/frameText.ts"
import { nowhere, type Piece } from "../hub/batch.ts"
import { Newest, type NewestLimits } from "../hub/newest.ts"
import { Line, type Outgoing } from "../hub/outgoing.ts"

interface WaitingPiece extends Piece {
  readonly channel: string
}

export class VolatileBacklog {
  readonly #newest: Newest<WaitingPiece>

  constructor(limits: NewestLimits) {
    this.#newest = new Newest(limits)
  }

  /** Roughly the bytes that wait. */
  get bytes(): number {
    return this.#newest.bytes
  }

  add(channel: string, pieces: ReadonlyArray<Piece>): void {
    // A name contains no space.
    for (const piece of pieces) this.#newest.put(`${channel} ${piece.key}`, { ...piece, channel })
  }

  /** Drops what waits of a channel that the client left. */
  forget(channel: string): void {
    for (const [key, piece] of this.#newest.entries()) {
      if (piece.channel === channel) this.#newest.delete(key)
    }
  }

  /** Takes one frame of the channel that waits for longest; `undefined` if nothing waits. */
  next(mostBytes: number): Outgoing | undefined {
    let first: string | undefined
    let bytes = 0
    const texts: Array<string> = []
    for (const [key, { channel, text }] of this.#newest.entries()) {
      first ??= channel
      if (channel !== first) continue
      bytes += text.length
      if (texts.length > 0 && bytes > mostBytes) break
      texts.push(text)
      this.#newest.delete(key)
    }
    return first === undefined ? undefined : new Line(encodeEvents(first, nowhere, texts))
  }
}
