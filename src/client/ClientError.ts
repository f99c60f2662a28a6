/**
 * The errors that only a client meets. Those of the queue stand in `PublishQueue`.
 *
 * @since 0.1.0
 */
import * as Data from "effect/Data"
import type { Retry } from "../Protocol.ts"

/**
 * Why a connection is in its state.
 *
 * - `unused`: nothing needs it. `needed`: something does. `welcome`: the server said so.
 * - `lost`: the link broke, or the client could not open it.
 * - `silent`: the client heard nothing in time, also after a `ping`.
 * - `unanswered`: the link lived, but the server did not answer a publish within `ackTimeout`.
 * - `server`: the server closed it. `message` has its sentence.
 * - `token`: the option `token` failed or was late.
 * - `address`: the option `url` gives none that can be used, failed or was late.
 * - `reconnect`: `reconnect` was called after a stop.
 * - `closed`: the client was closed.
 *
 * @category models
 * @since 0.1.0
 */
export type Reason =
  | "unused"
  | "needed"
  | "welcome"
  | "lost"
  | "silent"
  | "unanswered"
  | "server"
  | "token"
  | "address"
  | "reconnect"
  | "closed"

/**
 * The server rejected a subscription or a publish: for good, or, with `retryAfter`, for now.
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
 * token could help, 1000 that this side closed the client. `reason` is for programs. `message` is for
 * people, with the sentence that the server sent (`Protocol.closeCodes` has them all).
 *
 * @category errors
 * @since 0.1.0
 */
export class ConnectionStopped extends Data.TaggedError("ConnectionStopped")<{
  readonly code: number
  readonly reason: Reason
  readonly message: string
}> {}

/**
 * The option `token` threw, failed, rejected, or gave nothing within 10 s. The client calls it again
 * after `backoff`.
 *
 * @category errors
 * @since 0.1.0
 */
export class TokenFailed extends Data.TaggedError("TokenFailed")<{
  /** What it threw, failed or rejected with. */
  readonly cause: unknown
}> {
  override get message(): string {
    return `The token callback failed: ${this.cause}`
  }
}

/**
 * The option `url` has an address that cannot be used, or none: `RealtimeClient.layer` and `make` fail with
 * it, and `createRealtimeClient` throws it. Or it is a function that gave such an address, threw, failed,
 * rejected, or gave nothing within 10 s: `onError` receives it, and the client calls the function again after
 * `backoff`.
 *
 * @category errors
 * @since 0.1.0
 */
export class UrlFailed extends Data.TaggedError("UrlFailed")<{
  /** What the function threw, failed or rejected with; else a sentence that names the address. */
  readonly cause: unknown
}> {
  override get message(): string {
    return `The option url failed: ${this.cause}`
  }
}

/**
 * The server rejected a hello, or a fresh token after it, for now: for example because its `authenticate`
 * failed, which the server logs with the cause. The client goes on by itself after `backoff`, or after
 * `retryAfter`.
 *
 * @category errors
 * @since 0.1.0
 */
export class HelloRefused extends Data.TaggedError("HelloRefused")<{
  /** A code of the wire, e.g. `server/internal`. */
  readonly code: string
  /** The server's sentence. */
  readonly message: string
  /** The server's own delay before the next attempt, in milliseconds. */
  readonly retryAfter?: number | undefined
}> {}

/**
 * A publish was not sent, because its `key` is none.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidKey extends Data.TaggedError("InvalidKey")<{
  readonly channel: string
  readonly key: string
}> {
  override get message(): string {
    return `A publish on channel "${this.channel}" was not sent: a key has 1-64 characters, without NUL and without half of a surrogate pair.`
  }
}
