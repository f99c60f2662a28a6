/**
 * A message on its way to sockets: one or more frames as text, and what they become on the wire.
 *
 * Whatever carries it makes its own form of it, once for all sockets that are carried alike. The hub, the
 * mailbox and the session know the text and the size, never the form.
 */

/** How one kind of transport writes a message. */
export interface FrameCodec {
  /** Never changed afterwards: all sockets share it. A small one may share its memory with others. */
  readonly encode: (text: string) => Buffer
  /** The text that it was made of. */
  readonly textOf: (bytes: Buffer) => string
}

export abstract class Outgoing {
  /** Until some transport has its form. */
  #text: string | undefined
  /** Nearly every node has one codec. */
  #codec: FrameCodec | undefined
  #bytes: Buffer | undefined
  #others: Map<FrameCodec, Buffer> | undefined
  #kept: Map<FrameCodec, Outgoing> | undefined

  /** Makes the text, once. */
  protected abstract write(): string

  get text(): string {
    if (this.#codec !== undefined) return this.#codec.textOf(this.#bytes!)
    return (this.#text ??= this.write())
  }

  /** Makes the text now, unless some transport has its form already: what it is made of may go. */
  protected settle(): void {
    if (this.#codec === undefined) this.#text ??= this.write()
  }

  /** The bytes for every socket with this codec. */
  bytes(codec: FrameCodec): Buffer {
    if (this.#codec === codec) return this.#bytes!
    const known = this.#others?.get(codec)
    if (known !== undefined) return known
    const bytes = codec.encode(this.text)
    this.#note(codec, bytes)
    return bytes
  }

  /**
   * The same to be kept: one copy for every socket that keeps it. It holds its bytes in memory of their own,
   * and nothing of what it was made of.
   */
  lasting(codec: FrameCodec): Outgoing {
    let kept = this.#kept?.get(codec)
    if (kept === undefined) {
      kept = new Kept(codec, this.bytes(codec))
      ;(this.#kept ??= new Map()).set(codec, kept)
      this.#note(codec, kept.bytes(codec))
    }
    return kept
  }

  /** Has this form from now on. */
  protected adopt(codec: FrameCodec, bytes: Buffer): void {
    this.#note(codec, bytes)
  }

  #note(codec: FrameCodec, bytes: Buffer): void {
    if (this.#codec !== undefined && this.#codec !== codec) {
      ;(this.#others ??= new Map()).set(codec, bytes)
      return
    }
    this.#codec = codec
    this.#bytes = bytes
    this.#text = undefined
  }
}

class Kept extends Outgoing {
  constructor(codec: FrameCodec, bytes: Buffer) {
    super()
    const shared = bytes.buffer.byteLength !== bytes.length
    const own = shared ? Buffer.allocUnsafeSlow(bytes.length) : bytes
    if (shared) bytes.copy(own)
    this.adopt(codec, own)
  }

  override lasting(): Outgoing {
    return this
  }

  protected override write(): string {
    throw new Error("what is kept has its bytes")
  }
}

/** A message of a session by itself. */
export class Line extends Outgoing {
  readonly #text: string

  constructor(text: string) {
    super()
    this.#text = text
  }

  protected override write(): string {
    return this.#text
  }
}
