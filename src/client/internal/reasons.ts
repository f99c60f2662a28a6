/**
 * Why a connection is what it is, in words: a code for programs, and a sentence for people without its
 * full stop, because it is shown inside of sentences.
 *
 * @since 0.1.0
 */
import { ConnectionStopped, type Reason } from "../ClientError.ts"

export interface Because {
  readonly reason: Reason
  readonly message: string
}

/** The close code of a link that was lost without one. */
export const lost = 1006

export const unused: Because = { reason: "unused", message: "Nothing needs the connection" }
export const needed: Because = { reason: "needed", message: "The connection is needed" }
export const welcomed: Because = { reason: "welcome", message: "The server said welcome" }
export const silent: Because = {
  reason: "silent",
  message: "Nothing was heard from the server"
}
export const asked: Because = { reason: "reconnect", message: "A new attempt was asked for" }
export const closed: Because = { reason: "closed", message: "The client was closed" }

/** A socket closed, for the reason in its close frame, or after an `error` frame as its last word. */
export const ofClose = (code: number, said: string, wasOpen: boolean): Because => {
  if (code !== lost || said !== "") {
    return {
      reason: "server",
      message: said || `The server closed the connection with ${code}`
    }
  }
  const what = wasOpen ? "was lost" : "could not be opened"
  return { reason: "lost", message: `The connection ${what}` }
}

export const stopped = (code: number, { message, reason }: Because): ConnectionStopped =>
  new ConnectionStopped({
    code,
    reason,
    message: `The connection stopped (${code}: ${message}). Call reconnect when the cause is gone.`
  })
