/**
 * The other end of a session's socket where that is a WebSocket of `ws`.
 */
import { Socket } from "node:net"
import type { WebSocket } from "ws"
import type { Outgoing } from "../hub/outgoing.ts"
import type { Peer } from "../session/peer.ts"
import { webSocket } from "./webSocket.ts"

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

  keep(message: Outgoing): Outgoing {
    return message.lasting(webSocket)
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
