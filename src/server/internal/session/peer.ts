/**
 * The other end of a session's socket: a real WebSocket, or one in memory.
 */
import type { Outgoing } from "../hub/outgoing.ts"

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
  /** The message to be kept until it is written: its bytes alone, in memory of their own. */
  keep(message: Outgoing): Outgoing
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
