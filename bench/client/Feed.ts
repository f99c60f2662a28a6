/**
 * The bytes that the sockets of one channel receive.
 *
 * Where all sockets receive the same bytes, the first socket to receive some has them checked
 * against the published messages, and they are kept; the bytes of every other socket are compared
 * with them, at the speed of `memcmp`. So a thousand sockets are checked to the byte while the
 * machine is busy with the server.
 */
import type { Dialect, Place } from "./dialects.ts"

export class Feed implements Place {
  readonly channel: number
  /** Messages checked so far. */
  messages = 0
  epoch: string | undefined
  frames = 0
  /** Bytes of checked frames. */
  length = 0
  /** Bytes received by all readers together. */
  delivered = 0
  readers = 0
  /** Messages that the server reported missing. */
  missed = 0
  readonly #dialect: Dialect
  readonly #textOf: (number: number) => string
  #bytes: Buffer
  /** Where each kept frame begins, and how many messages stand before it. */
  readonly #starts: Array<number> = []
  readonly #before: Array<number> = []

  constructor(channel: number, dialect: Dialect, textOf: (number: number) => string) {
    this.channel = channel
    this.#dialect = dialect
    this.#textOf = textOf
    this.#bytes = Buffer.allocUnsafe(dialect.shared ? 1024 : 0)
  }

  /** See `Place`. */
  readonly expected = (index: number): string => this.#textOf(this.messages + index)

  /** Checks a frame that no socket had before, and keeps it. */
  append(frame: Buffer, text: string): void {
    const count = this.#dialect.read(text, this)
    if (this.#dialect.shared) {
      this.#starts.push(this.length)
      this.#before.push(this.messages)
      this.#reserve(this.length + frame.length)
      frame.copy(this.#bytes, this.length)
    }
    this.length += frame.length
    this.messages += count
    this.frames++
  }

  /** Goes on behind messages that will not arrive. */
  skip(to: number): void {
    if (this.#dialect.shared) throw new Error(`a gap on channel ${this.channel} before ${to}`)
    if (to < this.messages) throw new Error(`a gap goes back from ${this.messages} to ${to}`)
    this.missed += to - this.messages
    this.messages = to
  }

  /** Whether the bytes at `offset` are these, as far as the feed goes; returns how many. */
  match(chunk: Buffer, from: number, to: number, offset: number): number {
    const size = Math.min(to - from, this.length - offset)
    if (!this.#dialect.shared || size <= 0) return 0
    return this.#bytes.compare(chunk, from, from + size, offset, offset + size) === 0 ? size : 0
  }

  /** The bytes from the beginning of the frame that `offset` is in. */
  unfinished(offset: number): Buffer {
    if (!this.#dialect.shared || this.#starts.length === 0) return Buffer.alloc(0)
    if (offset >= this.length) return Buffer.alloc(0)
    return this.#bytes.subarray(this.#starts[this.#frameAt(offset)]!, offset)
  }

  /** The number of messages that end at or before `offset`. */
  messagesAt(offset: number): number {
    if (offset >= this.length) return this.messages
    return this.#before[this.#frameAt(offset)] ?? 0
  }

  /** Whether every reader has every byte of this many messages, and nothing more. */
  isComplete(messages: number): boolean {
    return this.messages === messages && this.delivered === this.length * this.readers
  }

  /** The average number of messages of the readers. */
  get progress(): number {
    return this.length === 0
      ? 0
      : (this.messages * this.delivered) / (this.length * Math.max(1, this.readers))
  }

  #frameAt(offset: number): number {
    let low = 0
    let high = this.#starts.length
    while (high - low > 1) {
      const middle = (low + high) >>> 1
      if (this.#starts[middle]! <= offset) low = middle
      else high = middle
    }
    return low
  }

  #reserve(size: number): void {
    if (size <= this.#bytes.length) return
    const grown = Buffer.allocUnsafe(Math.max(size, this.#bytes.length * 2))
    this.#bytes.copy(grown, 0, 0, this.length)
    this.#bytes = grown
  }
}
