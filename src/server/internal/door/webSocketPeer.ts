/**
 * The peer of a session for a WebSocket of `ws`.
 */
import { Socket } from "node:net"
import type { WebSocket } from "ws"
import type { Outgoing } from "../hub/outgoing.ts"
import type { Peer } from "../session/peer.ts"
import { Tally } from "../tally.ts"
import { webSocket } from "./webSocket.ts"

/**
 * Writes frames to the socket directly, because `ws` would frame each of them again. That is safe: `ws`
 * writes whole frames to the same socket, and nothing is compressed.
 */
export class WebSocketPeer implements Peer {
  readonly #ws: WebSocket
  readonly #socket: Socket
  readonly #tally: Tally

  constructor(ws: WebSocket, socket: Socket, tally = new Tally()) {
    this.#ws = ws
    this.#socket = socket
    this.#tally = tally
  }

  write(message: Outgoing): boolean {
    return this.#ws.readyState !== 1 || this.#write(message.bytes(webSocket))
  }

  #write(bytes: Buffer): boolean {
    this.#tally.bytesOut += bytes.length
    return this.#socket.write(bytes)
  }

  writeAll(messages: ReadonlyArray<Outgoing>): boolean {
    if (messages.length === 1) return this.write(messages[0]!)
    if (this.#ws.readyState !== 1) return true
    return this.#write(Buffer.concat(messages.map((message) => message.bytes(webSocket))))
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
    // After `destroy` alone the kernel would keep data for a peer that never reads it. The socket
    // beneath TLS has no public name.
    const { _parent: beneath } = this.#socket as { readonly _parent?: unknown }
    try {
      ;(beneath instanceof Socket ? beneath : this.#socket).resetAndDestroy()
    } catch {
      // Only TCP has a reset.
    }
    this.#socket.destroy()
  }
}
