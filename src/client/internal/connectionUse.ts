/**
 * What the connection calls above it, and what those above use of it.
 *
 * @since 0.1.0
 */
import type { FrameOf, ServerFrame } from "../../Frame.ts"
import type { SourceState } from "../../Protocol.ts"
import type { ConnectionStopped, Refused } from "../ClientError.ts"
import type { Measurement, State } from "../Connection.ts"
import type { Readable } from "../Readable.ts"
import type { Ask } from "./connectionStates.ts"
import type { ChannelFrame, RefusalFields } from "./requests.ts"

export type Welcome = FrameOf<ServerFrame, "welcome">

/** One of those above. Called synchronously; must not throw. */
export interface Above {
  /** Whether it needs the connection. It calls `look` when that changes. */
  readonly needed: () => boolean
  readonly open: (welcome: Welcome) => void
  readonly receive?: (frame: ChannelFrame) => void
  readonly down: () => void
  /** The connection has stopped. */
  readonly end: (error: ConnectionStopped) => void
}

export interface Connection {
  readonly state: Readable<State>
  readonly source: Readable<SourceState>
  /** Looks soon at what is needed and what is due. */
  readonly look: () => void
  /** Asks while open, otherwise nothing happens. After `down` there is no answer. */
  readonly request: Ask
  /**
   * The error of a refusal that asking again would not help. Renews the identity on this socket
   * with a fresh token where that would.
   */
  readonly refused: (channel: string, refusal: RefusalFields) => Refused | undefined
  /** Hands a measurement to the program that collects them; `undefined` without one. */
  readonly measure: ((name: Measurement, value: number) => void) | undefined
  /** Gives up a link that lives and does not do what it is for. */
  readonly giveUp: (message: string) => void
  /** Looks at the link now, cuts a wait short, and leaves `stopped`. */
  readonly reconnect: () => void
  /** The error of every user of it, once it has stopped. */
  readonly stopped: () => ConnectionStopped | undefined
  /** How long what is not needed any more is kept, in milliseconds. */
  readonly linger: number
  /** How long to wait after so many failures in a row, in milliseconds. */
  readonly jitter: (failures: number) => number
  /** What went well for this long is forgiven its failures, in milliseconds. */
  readonly resetAfter: number
}
