/**
 * The other end of a session's socket: a WebSocket, or a peer in memory.
 */
import type { Outgoing } from "../hub/outgoing.ts"

export interface Peer {
  /**
   * Writes a message. Returns `false` when the caller must wait for `onDrain` before it writes more.
   * After a close frame, sent or received, messages are dropped: the other end would ignore them.
   */
  write(message: Outgoing): boolean
  /** Writes several messages at once, in order. */
  writeAll(messages: ReadonlyArray<Outgoing>): boolean
  /** The size of a message on the wire, in bytes. */
  sizeOf(message: Outgoing): number
  /** A copy of the message to keep until it is written: only its bytes, in memory of their own. */
  keep(message: Outgoing): Outgoing
  /** Bytes written to the socket so far, including those that this peer did not write. */
  written(): number
  /**
   * Calls `drained` once when the socket takes bytes again, at once if it does now. Returns a function
   * that cancels the call.
   */
  onDrain(drained: () => void): () => void
  /** Stops reading until `resume`. The network then holds the client back. */
  pause(): void
  resume(): void
  close(code: number, reason: string): void
  /** Whether the connection is closing or closed, begun by either side. */
  closing(): boolean
  /** Cuts the socket without a close frame, and frees what the kernel holds for it. */
  terminate(): void
}
