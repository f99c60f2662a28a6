/**
 * The other end of a session's socket: a real WebSocket, or one in memory.
 */
import { Socket } from "node:net"
import type { WebSocket } from "ws"
import type { Outgoing } from "../hub/outgoing.ts"
import { webSocket } from "./webSocket.ts"

export interface Peer {
  /**
   * Takes a message; `false` means: no more until it drained. Once a close frame went out or came in, what
   * is written is forgotten: the other end would ignore it.
   */
  write(message: Outgoing): boolean
  /** The same for several at once, in order. */
  writeAll(messages: ReadonlyArray<Outgoing>): boolean
  /** The bytes that a message takes on the wire. */
  sizeOf(message: Outgoing): number
  /** The same of a message that waits: from now on it holds no memory beside its own. */
  keep(message: Outgoing): number
  /** Bytes written so far: it grows with everything that is written, whoever writes it. */
  written(): number
  /** Calls back once when the socket takes bytes again, at once when it does; returns the way back. */
  onDrain(drained: () => void): () => void
  /** Reads nothing more until `resume`: the peer is held back by its own network. */
  pause(): void
  resume(): void
  close(code: number, reason: string): void
  /** Whether the connection ends already, whoever began it. */
  closing(): boolean
  /** Cuts the socket without a word, and frees what the kernel still holds for it. */
  terminate(): void
}

/**
 * Frames go straight to the socket beside `ws`, which would frame each of them once more. That is
 * safe because `ws` writes whole frames through the same socket and nothing here is compressed.
 */
export class WebSocketPeer implements Peer {
  readonly #ws: WebSocket
  readonly #socket: Socket

  constructor(ws: WebSocket, socket: Socket) {
    this.#ws = ws
    this.#socket = socket
  }

  write(message: Outgoing): boolean {
    return this.#ws.readyState !== 1 || this.#socket.write(message.bytes(webSocket))
  }

  writeAll(messages: ReadonlyArray<Outgoing>): boolean {
    if (messages.length === 1) return this.write(messages[0]!)
    if (this.#ws.readyState !== 1) return true
    return this.#socket.write(Buffer.concat(messages.map((message) => message.bytes(webSocket))))
  }

  sizeOf(message: Outgoing): number {
    return message.bytes(webSocket).length
  }

  keep(message: Outgoing): number {
    return message.lasting(webSocket).length
  }

  written(): number {
    return this.#socket.bytesWritten
  }

  onDrain(drained: () => void): () => void {
    const socket = this.#socket
    if (!socket.writableNeedDrain) {
      drained()
      return () => undefined
    }
    socket.once("drain", drained)
    return () => socket.off("drain", drained)
  }

  pause(): void {
    this.#ws.pause()
  }

  resume(): void {
    this.#ws.resume()
  }

  close(code: number, reason: string): void {
    this.#ws.close(code, reason)
  }

  closing(): boolean {
    return this.#ws.readyState > 1
  }

  terminate(): void {
    // Merely destroyed, the kernel would keep what was written for a peer that never reads it. What TLS
    // is spoken over has no public name.
    const { _parent: beneath } = this.#socket as { readonly _parent?: unknown }
    try {
      ;(beneath instanceof Socket ? beneath : this.#socket).resetAndDestroy()
    } catch {
      // Only TCP knows a reset.
    }
    this.#socket.destroy()
  }
}
