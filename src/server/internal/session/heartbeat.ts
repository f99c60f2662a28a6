/**
 * When a session pings, and when silence closes it: a pure function from times to an action.
 *
 * The door calls it about once per second for each session, so that no session has timers of its own.
 * It returns an action only: the session pings, closes or cuts the socket, and keeps the times.
 */
import type { ResolvedLimits } from "../limits/limits.ts"

/** Milliseconds from a close frame, sent or received, until the server cuts an open socket. */
const closeGraceMillis = 2000

/** Times in milliseconds since 1970; 0 for never. */
export interface Times {
  /** When the client last sent a message. */
  received: number
  /** When the socket was last seen to have written bytes; at first, when it opened. */
  sent: number
  pinged: number
  /** Bytes that the socket had written at `sent`. */
  written: number
  /** When a close frame was sent or received; `undefined` until then. */
  closing: number | undefined
}

export const begin = (now: number): Times => ({
  received: now,
  sent: now,
  pinged: 0,
  written: 0,
  closing: undefined
})

/** The state of the session now. */
export interface SessionNow {
  /** Before hello, while the token is checked, or after the welcome. */
  readonly phase: "new" | "greeting" | "open"
  /** Whether the socket is closing, begun by either side. */
  readonly closing: boolean
  /** Whether the server has paused reading from the socket. */
  readonly paused: boolean
  /** Bytes that the socket has written so far. */
  readonly written: number
  /** When the token expires, in milliseconds since 1970. */
  readonly expiresAt: number
}

/** `cut` ends the socket without a close frame. A name closes it with that reason. */
export type Action = "nothing" | "ping" | "cut" | "noHello" | "tokenExpired" | "nothingHeard"

/** The action at `now`, and the times after it: the same object if none has changed. */
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
  // If the clock was set back, times in the future count as now.
  let received = Math.min(times.received, now)
  let sent = Math.min(times.sent, now)
  let pinged = Math.min(times.pinged, now)
  let { closing, written } = times
  // A peer that began to close gets the same grace.
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
    // The server does not read a paused client, so silence means nothing.
    if (seen.paused) received = now
    // Closes only after a ping: a process that slept did not read its sockets.
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
