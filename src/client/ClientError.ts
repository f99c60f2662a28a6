/**
 * The errors that only a client meets. Those of the queue stand in `PublishQueue`.
 *
 * @since 0.1.0
 */
import * as Data from "effect/Data"
import type { Retry } from "../Protocol.ts"

/**
 * The server said no to a subscription or a publish: for good, or, with `retryAfter`, for now.
 *
 * @category errors
 * @since 0.1.0
 */
export class Refused extends Data.TaggedError("Refused")<{
  /** A code of the wire, e.g. `channel/forbidden`. */
  readonly code: string
  readonly channel: string
  /** The server's sentence. */
  readonly message: string
  readonly retry: Retry
  /** The client asks again by itself, this many milliseconds after the refusal. */
  readonly retryAfter?: number | undefined
}> {}

/**
 * The connection ended for good, so nothing will be sent or received any more.
 *
 * `code` is the close code: 4200-4299 and 1009 come from the server, 4100-4199 mean that no fresh
 * token could help, 1000 that this side closed the client. `reason` is the sentence that the server sent
 * with it (`Protocol.closeCodes` has them all), or the client's own words.
 *
 * @category errors
 * @since 0.1.0
 */
export class ConnectionStopped extends Data.TaggedError("ConnectionStopped")<{
  readonly code: number
  readonly reason: string
}> {
  override get message(): string {
    return `The connection stopped (${this.code}: ${this.reason}). Call reconnect when the cause is gone.`
  }
}

/**
 * A publish was sent and the server did not answer in time. It may or may not have happened.
 *
 * @category errors
 * @since 0.1.0
 */
export class AckTimeout extends Data.TaggedError("AckTimeout")<{
  readonly channel: string
  /** How long the answer was waited for. */
  readonly millis: number
}> {
  override get message(): string {
    return `A publish on channel "${this.channel}" was not answered within ${this.millis} ms. It may have happened: read the state before you send again.`
  }
}
