/**
 * What a WebSocket door is told: its channels, who may use them, and its limits.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Channel from "../Channel.ts"

/**
 * What a client asks to do.
 *
 * @category models
 * @since 0.1.0
 */
export interface Request {
  /** The name of the channel, e.g. `query_results_42`. */
  readonly channel: string
  /** The definition that matched the name. */
  readonly definition: Channel.Definition
  /** The decoded parameter of a family, e.g. `"42"`; `undefined` for a single channel. */
  readonly params: unknown
  readonly action: "subscribe" | "publish"
}

/**
 * Decides whether a client may do what it asks. Has 5 s; then, and when it dies, the client is
 * answered `server/internal` and may try again.
 *
 * @category models
 * @since 0.1.0
 */
export type Authorize<R = never> = (request: Request) => Effect.Effect<boolean, never, R>

/**
 * Lets everybody subscribe to every channel of the server, and publish where the channel says so.
 * Nobody gets in by default: a server that is open to all says this word.
 *
 * @category authorization
 * @since 0.1.0
 */
export const allowAll: Authorize = () => Effect.succeed(true)

/**
 * @category models
 * @since 0.1.0
 */
export interface Limits {
  /** Largest message of a client, default 64 KiB (65,536 bytes). A larger one closes with 1009. */
  readonly frameBytes?: number | undefined
  /** Requests of a session that wait for their answer, default 100. One more closes with 4003. */
  readonly unanswered?: number | undefined
  /** Time a client has to say hello, default 10 s. Then it is closed with 4005. */
  readonly hello?: Duration.Input | undefined
  /** Silence, in either direction, after which the server sends a ping, default 25 s. */
  readonly ping?: Duration.Input | undefined
  /** Time beyond `ping` that a client may stay silent, default 10 s. Then it is closed with 4002. */
  readonly slack?: Duration.Input | undefined
  /**
   * Backlog of one socket that does not keep up, default 1 MiB (1,048,576 bytes). At the limit its
   * waiting events are dropped and their channels are told `gap slow`.
   */
  readonly mailboxBytes?: number | undefined
  /** Time a socket may take no bytes at all, default 30 s. Then it is closed with 4001. */
  readonly blocked?: Duration.Input | undefined
  /** Subscriptions of a session, default 100. One more is answered `subscribe/limit`. */
  readonly subscriptions?: number | undefined
  /** Sessions of this node, default 10,000. One more is refused with 503. */
  readonly sessions?: number | undefined
  /** Time a subscription waits for the source, default 10 s. Then it is answered `source/down`. */
  readonly sourceWait?: Duration.Input | undefined
  /** Time that `authorize` has, default 5 s. Then the request is answered `server/internal`. */
  readonly authorize?: Duration.Input | undefined
  /** Time sockets have to leave when the server closes, default 1 s. Then they are cut. */
  readonly drain?: Duration.Input | undefined
}

/**
 * @category models
 * @since 0.1.0
 */
export interface Options<R = never> {
  /** What clients may know of. A channel that is not here does not exist for them. */
  readonly channels: ReadonlyArray<Channel.Definition>
  /** Who may do what: a function, or `allowAll` for a server that is open to everybody. */
  readonly authorize: Authorize<R>
  /** Where the WebSocket is, default `/realtime`. A query string is ignored. */
  readonly path?: `/${string}` | undefined
  /**
   * Which pages may connect, default the same origin: `Origin` must have the host and port of `Host`.
   * A list names whole origins (`https://app.example.com`). A request without `Origin` does not come
   * from a browser page and passes.
   */
  readonly origins?: ReadonlyArray<string> | "any" | undefined
  readonly limits?: Limits | undefined
}

/** The limits in force: durations in milliseconds. Not for applications. */
export type ResolvedLimits = { readonly [Key in keyof Limits]-?: number }

/** Not for applications. */
export const resolveLimits = (limits: Limits | undefined): ResolvedLimits => {
  const millis = (value: Duration.Input | undefined, fallback: Duration.Input) =>
    Duration.toMillis(Duration.fromInputUnsafe(value ?? fallback))
  return {
    frameBytes: limits?.frameBytes ?? 64 * 1024,
    unanswered: limits?.unanswered ?? 100,
    hello: millis(limits?.hello, "10 seconds"),
    ping: millis(limits?.ping, "25 seconds"),
    slack: millis(limits?.slack, "10 seconds"),
    mailboxBytes: limits?.mailboxBytes ?? 1024 * 1024,
    blocked: millis(limits?.blocked, "30 seconds"),
    subscriptions: limits?.subscriptions ?? 100,
    sessions: limits?.sessions ?? 10_000,
    sourceWait: millis(limits?.sourceWait, "10 seconds"),
    authorize: millis(limits?.authorize, "5 seconds"),
    drain: millis(limits?.drain, "1 second")
  }
}
