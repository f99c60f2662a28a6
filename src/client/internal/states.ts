/**
 * The states of a connection, each with what belongs to it and to no other.
 *
 * ```
 * Idle ⇄ Waiting → FetchingToken → Dialing → Open
 *           ↑______________|__________|________|      failed, closed, dead
 * ```
 *
 * Every state may become `Stopped`. All but `Stopped` become `Idle` when the connection is not needed.
 * `Waiting` becomes `Dialing` at once where there is no token to fetch. What each transition releases
 * and when it happens is left to `connection`.
 *
 * @since 0.1.0
 */
import type { ServerFrame } from "../../Frame.ts"
import type { ConnectionStopped } from "../ClientError.ts"
import type { ConnectionState } from "../Connection.ts"
import type { WebSocketLike } from "./platform.ts"
import type { Retries } from "./retries.ts"

/** What the user sees of a state. */
interface Shown<Status extends ConnectionState["status"]> {
  readonly shown: Extract<ConnectionState, { readonly status: Status }>
}

/** No attempt is made before a time. */
interface Resting {
  /** Why the last attempt ended. */
  readonly reason: string
  until: number
}

/** A socket is on its way or there. */
interface Trying {
  /** The page has signalled, and nothing was heard since. */
  probing: boolean
}

/** A token can be asked for. */
interface Asking {
  /** The token callback has not answered. */
  asking: boolean
  /** Interrupts the token callback. */
  interrupt: () => void
}

interface Linked {
  readonly socket: WebSocketLike
  /** Nothing heard until then means dead. */
  deadAt: number
}

export interface Idle extends Shown<"idle">, Resting {
  readonly tag: "Idle"
}

export interface Waiting extends Shown<"waiting">, Resting {
  readonly tag: "Waiting"
}

export interface FetchingToken extends Shown<"connecting">, Trying, Asking {
  readonly tag: "FetchingToken"
}

export interface Dialing extends Shown<"connecting">, Trying, Linked {
  readonly tag: "Dialing"
  /** What the server said before it closed. */
  complaint: string
}

export interface Open extends Shown<"open">, Trying, Asking, Linked {
  readonly tag: "Open"
  /** Each frame moves `deadAt` by this, in milliseconds. */
  readonly silence: number
  /** When the token is renewed. */
  renewAt: number
  readonly renewals: Retries
  /** The server's own delay before the next attempt, in milliseconds. */
  reconnectAfter: number | undefined
  lastId: number
  readonly unanswered: Map<number, (frame: ServerFrame) => void>
}

export interface Stopped extends Shown<"stopped"> {
  readonly tag: "Stopped"
  readonly error: ConnectionStopped
  /** The client is closed: `reconnect` does not leave this state either. */
  readonly final: boolean
}

export type State = Idle | Waiting | FetchingToken | Dialing | Open | Stopped
