/**
 * A message to sockets: one or more frames as text, and their bytes on the wire.
 *
 * A transport's codec makes the bytes once for all its sockets. The hub, the mailbox and the session
 * use the text and the size, never the bytes.
 */

/** Turns the text of a message into the bytes of one kind of transport. */
export interface FrameCodec {
  /**
   * The bytes of a text. They never change, because all sockets share them. A small message may share
   * its memory with others.
   */
  readonly encode: (text: string) => Buffer
  /** The text that these bytes were made of. */
  readonly textOf: (bytes: Buffer) => string
}

export abstract class Outgoing {
  /** The text, until a codec has made bytes of it. */
  #text: string | undefined
  /** Nearly every node has one codec. */
  #codec: FrameCodec | undefined
  #bytes: Buffer | undefined
  #others: Map<FrameCodec, Buffer> | undefined
  #kept: Map<FrameCodec, Outgoing> | undefined

  /** Makes the text. Called once. */
  protected abstract write(): string

  get text(): string {
    if (this.#codec !== undefined) return this.#codec.textOf(this.#bytes!)
    return (this.#text ??= this.write())
  }

  /** Makes the text now, unless a codec has its bytes, so that its data may be freed. */
  protected settle(): void {
    if (this.#codec === undefined) this.#text ??= this.write()
  }

  /** The bytes for every socket with this codec, made at the first call. */
  bytes(codec: FrameCodec): Buffer {
    if (this.#codec === codec) return this.#bytes!
    const known = this.#others?.get(codec)
    if (known !== undefined) return known
    const bytes = codec.encode(this.text)
    this.#note(codec, bytes)
    return bytes
  }

  /**
   * A copy for mailboxes, shared by every socket that keeps it. It holds its bytes in memory of their
   * own and no other data.
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

  /** Sets the bytes of this codec. */
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
    throw new Error("a kept message has its bytes already")
  }
}

/** A message to one session, made of a text. */
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
