/**
 * When a session pings, and when its silence ends it: a pure function from times to an action.
 *
 * The door calls it about once per second for each session, by absolute times, so that no session has
 * timers of its own. It acts on nothing: the session pings, closes or cuts, and keeps the times.
 */
import type { ResolvedLimits } from "../limits/limits.ts"

/** Time between a close frame, sent or received, and cutting a socket that is not closed by then. */
const closeGraceMillis = 2000

/** In milliseconds since 1970; 0 for never. */
export interface Times {
  /** The client sent a message. */
  received: number
  /** The socket was last seen to have written something; until then, when it opened. */
  sent: number
  pinged: number
  /** Bytes that the socket had written then. */
  written: number
  /** A close frame was sent or received; `undefined` until then. */
  closing: number | undefined
}

export const begin = (now: number): Times => ({
  received: now,
  sent: now,
  pinged: 0,
  written: 0,
  closing: undefined
})

/** How the session is now. */
export interface SessionNow {
  /** Before hello, while the token is checked, or after the welcome. */
  readonly phase: "new" | "greeting" | "open"
  /** The socket is closing, whoever began it. */
  readonly closing: boolean
  /** The server reads nothing of the socket. */
  readonly paused: boolean
  /** Bytes that the socket has written. */
  readonly written: number
  /** When the token ends, in milliseconds since 1970. */
  readonly expiresAt: number
}

/** `cut` ends the socket without a word; a name closes it with that reason. */
export type Action = "nothing" | "ping" | "cut" | "noHello" | "tokenExpired" | "nothingHeard"

/** What to do at `now`, and the times from then on: the same object when none has changed. */
export const beat = (
  times: Times,
  seen: SessionNow,
  {
    helloTimeout,
    pingInterval,
    pingTimeout
  }: Pick<ResolvedLimits, "helloTimeout" | "pingInterval" | "pingTimeout">,
  now: number
): { readonly action: Action; readonly times: Times } => {
  // A clock that was set back holds up nothing for longer than usual.
  let received = Math.min(times.received, now)
  let sent = Math.min(times.sent, now)
  let pinged = Math.min(times.pinged, now)
  let { closing, written } = times
  // A peer that began to close has to take the answer in the same time.
  if (closing !== undefined) closing = Math.min(closing, now)
  else if (seen.closing) closing = now

  const decide = (): Action => {
    if (closing !== undefined) return now - closing >= closeGraceMillis ? "cut" : "nothing"
    if (seen.phase === "new") return now - sent >= helloTimeout ? "noHello" : "nothing"
    if (seen.phase === "greeting") return "nothing"
    if (seen.written !== written) {
      written = seen.written
      sent = now
    }
    if (now >= seen.expiresAt) return "tokenExpired"
    // A client that is held back cannot be heard.
    if (seen.paused) received = now
    // Never without a ping before: a process that slept has not listened either.
    const asked = pinged > received && now - pinged >= pingTimeout
    if (asked && now - received >= pingInterval + pingTimeout) return "nothingHeard"
    const quiet = now - Math.max(received, pinged) >= pingInterval
    if (!quiet && now - sent < pingInterval) return "nothing"
    pinged = now
    return "ping"
  }

  const action = decide()
  const same =
    received === times.received &&
    sent === times.sent &&
    pinged === times.pinged &&
    written === times.written &&
    closing === times.closing
  return { action, times: same ? times : { received, sent, pinged, written, closing } }
}
