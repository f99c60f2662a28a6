/**
 * The other end of a session's socket: a real WebSocket, or one in memory.
 */
import type { Socket } from "node:net"
import type { WebSocket } from "ws"

export interface Peer {
  /** False once a close frame went out or came in: nothing more may be written. */
  readonly isOpen: () => boolean
  /** Takes whole frames of bytes; `false` means: no more until it drained. */
  readonly write: (frames: Uint8Array) => boolean
  /** Calls back once when the socket takes bytes again, at once when it does; returns the way back. */
  readonly onDrain: (drained: () => void) => () => void
  /** Reads nothing more until `resume`: the peer is held back by its own network. */
  readonly pause: () => void
  readonly resume: () => void
  readonly close: (code: number, reason: string) => void
  /** Cuts the socket without a word, and frees what the kernel still holds for it. */
  readonly terminate: () => void
}

/**
 * Frames go straight to the socket beside `ws`, which would frame each of them once more. That is
 * safe because `ws` writes whole frames through the same socket and nothing here is compressed.
 */
export const fromWebSocket = (ws: WebSocket, socket: Socket): Peer => ({
  isOpen: () => ws.readyState === ws.OPEN,
  write: (frames) => socket.write(frames),
  onDrain: (drained) => {
    if (!socket.writableNeedDrain) {
      drained()
      return () => undefined
    }
    socket.once("drain", drained)
    return () => socket.off("drain", drained)
  },
  pause: () => ws.pause(),
  resume: () => ws.resume(),
  close: (code, reason) => ws.close(code, reason),
  terminate: () => ws.terminate()
})
