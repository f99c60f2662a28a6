/**
 * One raw socket: shakes hands, subscribes, and then checks every byte against its channel's feed.
 */
import type { Socket } from "node:net"
import type { Dialect } from "./dialects.ts"
import type { Feed } from "./Feed.ts"
import { clientFrame, opcodes, readFrame } from "./framing.ts"

export interface Hooks {
  readonly onReady: () => void
  /** The socket can be used no more. */
  readonly onFailure: (error: Error) => void
  /** The socket received more of its feed. */
  readonly onProgress: (connection: Connection) => void
}

const handshake = (dialect: Dialect, channel: number, host: string): string =>
  `GET ${dialect.path(channel)} HTTP/1.1\r\nHost: ${host}\r\nConnection: Upgrade\r\n` +
  "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" +
  (dialect.subprotocol === undefined ? "" : `Sec-WebSocket-Protocol: ${dialect.subprotocol}\r\n`) +
  "\r\n"

const headEnd = "\r\n\r\n"

export class Connection {
  readonly feed: Feed
  /** Bytes of the feed that this socket received. */
  offset = 0
  readonly #number: number
  readonly #channels: ReadonlyArray<number>
  readonly #dialect: Dialect
  readonly #hooks: Hooks
  #socket: Socket | undefined
  #phase: "handshake" | "greeting" | "feed" = "handshake"
  /** The beginning of a frame, or of the answer to the handshake. */
  #held: Buffer = Buffer.alloc(0)
  /** The beginning of a unit of the dialect. */
  #pieces: Buffer = Buffer.alloc(0)
  #closed = false

  constructor(
    socket: number,
    channels: ReadonlyArray<number>,
    dialect: Dialect,
    feed: Feed,
    hooks: Hooks
  ) {
    this.#number = socket
    this.#channels = channels
    this.#dialect = dialect
    this.#hooks = hooks
    this.feed = feed
    feed.readers++
  }

  open(socket: Socket): void {
    this.#socket = socket
    socket.write(handshake(this.#dialect, this.#channels[0] ?? 0, "127.0.0.1"))
  }

  /** Takes bytes; the buffer is the caller's again afterwards. */
  receive(chunk: Buffer): void {
    try {
      if (this.#phase === "feed" && this.#held.length === 0) this.#compare(chunk)
      else this.#take(Buffer.concat([this.#held, chunk]))
    } catch (error) {
      this.fail(error instanceof Error ? error : new Error(String(error)))
    }
  }

  fail(error: Error): void {
    if (this.#closed) return
    this.#closed = true
    this.#socket?.destroy()
    this.#hooks.onFailure(new Error(`socket ${this.#number}: ${error.message}`))
  }

  close(): void {
    this.#closed = true
    this.#socket?.destroy()
  }

  /** Bytes behind the last whole frame or unit. */
  get unread(): number {
    return this.#held.length + this.#pieces.length
  }

  get socket(): Socket | undefined {
    return this.#socket
  }

  #compare(chunk: Buffer): void {
    const size = this.feed.match(chunk, 0, chunk.length, this.offset)
    this.#advance(size)
    if (size === chunk.length) return
    // A frame without messages, new messages, or a wrong byte: check the frame as a whole.
    const head = this.feed.unfinished(this.offset)
    this.#advance(-head.length)
    this.#take(Buffer.concat([head, chunk.subarray(size)]))
  }

  #take(bytes: Buffer): void {
    let at = 0
    if (this.#phase === "handshake") {
      const end = bytes.indexOf(headEnd)
      if (end < 0) {
        this.#held = bytes
        return
      }
      const status = bytes.toString("latin1", 0, end).split("\r\n", 1)[0]!
      if (!status.startsWith("HTTP/1.1 101 ")) throw new Error(`refused: ${status}`)
      at = end + headEnd.length
      this.#phase = "greeting"
      for (const frame of this.#dialect.greeting(this.#number, this.#channels)) {
        this.#socket?.write(frame)
      }
      if (this.#dialect.readyAtOnce(this.#channels)) this.#ready()
    }
    for (let frame = readFrame(bytes, at); frame !== undefined; frame = readFrame(bytes, at)) {
      const whole = bytes.subarray(at, frame.end)
      this.#frame(frame.opcode, whole, bytes.subarray(frame.payload, frame.end))
      at = frame.end
    }
    // A copy, because the bytes may be the caller's.
    this.#held = Buffer.from(bytes.subarray(at))
  }

  #frame(opcode: number, whole: Buffer, payload: Buffer): void {
    if (opcode === opcodes.close) {
      const code = payload.length < 2 ? "without a code" : payload.readUInt16BE(0)
      throw new Error(`closed by the server: ${code}`)
    }
    if (opcode === opcodes.ping) {
      this.#socket?.write(clientFrame(payload, opcodes.pong))
      return undefined
    }
    const { unitEnd } = this.#dialect
    if (unitEnd === undefined) return this.#unit(whole, payload.toString("utf8"))
    const bytes = Buffer.concat([this.#pieces, payload])
    let at = 0
    for (let end = unitEnd(bytes, at); end !== undefined; end = unitEnd(bytes, at)) {
      const unit = bytes.subarray(at, end)
      this.#unit(unit, unit.toString("latin1"))
      at = end
    }
    this.#pieces = bytes.subarray(at)
    return undefined
  }

  #unit(whole: Buffer, text: string): void {
    const answer = this.#dialect.smallTalk(text)
    if (answer !== undefined) {
      if (answer !== "silence") this.#socket?.write(answer)
      return
    }
    if (this.#phase === "greeting") {
      if (this.#dialect.answers(text, this.#channels) === "ready") this.#ready()
    } else if (this.offset === this.feed.length) this.#news(whole, text)
    else {
      if (this.feed.match(whole, 0, whole.length, this.offset) !== whole.length) {
        throw new Error(`sockets of channel ${this.feed.channel} got different bytes: ${text}`)
      }
      this.#advance(whole.length)
    }
    if (this.#dialect.acknowledge !== undefined) this.#socket?.write(this.#dialect.acknowledge)
  }

  /** Checks a frame that no socket of the feed had before. */
  #news(whole: Buffer, text: string): void {
    const after = this.#dialect.gap?.(text)
    if (after === undefined) {
      this.feed.append(whole, text)
      this.#advance(whole.length)
      return
    }
    this.feed.skip(after)
    this.#hooks.onProgress(this)
  }

  #ready(): void {
    this.#phase = "feed"
    this.#hooks.onReady()
  }

  #advance(bytes: number): void {
    if (bytes === 0) return
    this.offset += bytes
    this.feed.delivered += bytes
    this.#hooks.onProgress(this)
  }
}
