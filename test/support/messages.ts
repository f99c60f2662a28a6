import { webSocket } from "../../src/server/internal/door/webSocket.ts"
import type { Peer } from "../../src/server/internal/session/peer.ts"
import { Line, Outgoing } from "../../src/server/internal/hub/outgoing.ts"

/** A message of this many bytes on any wire; its text does not matter. */
export class Sized extends Outgoing {
  readonly size: number

  constructor(size: number) {
    super()
    this.size = size
  }

  protected override write(): string {
    return "x".repeat(this.size)
  }
}

/** The bytes of a message in a WebSocket. */
export const bytesOf = (message: Outgoing): number =>
  message instanceof Sized ? message.size : message.bytes(webSocket).length

/** The sizes that a test's peer returns for messages: the same as those of a WebSocket. */
export const sizes: Pick<Peer, "keep" | "sizeOf"> = {
  keep: (message) => message,
  sizeOf: bytesOf
}

export const textFrame = (text: string): Buffer => webSocket.encode(text)

export const line = (text: string): Line => new Line(text)
