/**
 * What a WebSocket door is told: its channels, who somebody is, what they may do, and its limits.
 *
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { IncomingHttpHeaders } from "node:http"
import type * as Channel from "../Channel.ts"
import { errorCodes } from "../Protocol.ts"
import type { Rate } from "./internal/options.ts"

export type {
  /**
   * @category models
   * @since 0.1.0
   */
  Rate
} from "./internal/options.ts"

/**
 * What a client brings to prove who it is.
 *
 * @category models
 * @since 0.1.0
 */
export interface Credentials {
  /** The token of `hello` or `authenticate`; tokens never travel in a URL. */
  readonly token: string | undefined
  /** The headers of the upgrade request, cookies among them; without `Sec-WebSocket-*`, `Upgrade` and `Connection`. */
  readonly headers: IncomingHttpHeaders
  /** The client's address; behind a proxy only as far as `trustProxy` says. */
  readonly address: string
}

/**
 * Who a client is, and for how long.
 *
 * @category models
 * @since 0.1.0
 */
export interface Authenticated<I> {
  readonly identity: I
  /**
   * When the proof ends. The client is asked for a fresh token before, and closed with 4100 then. An invalid
   * `Date` is a failure of `authenticate`.
   */
  readonly expires?: Date | undefined
}

/**
 * A client is not let in. `auth/expired` lets it come back with a fresh token; the others stop it.
 *
 * @category errors
 * @since 0.1.0
 */
export class AuthRefused extends Schema.TaggedError<AuthRefused>()("AuthRefused", {
  code: Schema.Literals(["auth/required", "auth/invalid", "auth/expired"])
}) {
  override get message(): string {
    return errorCodes[this.code].sentence
  }
}

/**
 * Tells who a client is. Has 5 s; then, and when it dies, the client is answered `server/internal`
 * and may come back.
 *
 * @category models
 * @since 0.1.0
 */
export type Authenticate<I, R = never> = (
  credentials: Credentials
) => Effect.Effect<Authenticated<I>, AuthRefused, R>

/**
 * What a client asks to do.
 *
 * @category models
 * @since 0.1.0
 */
export interface Request<I = undefined> {
  /** Who asks: what `authenticate` gave; `undefined` on a server without it. */
  readonly identity: I
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
export type Authorize<I = undefined, R = never> = (
  request: Request<I>
) => Effect.Effect<boolean, never, R>

/**
 * Lets everybody subscribe to every channel of the server, and publish where the channel says so.
 * Nobody gets in by default: a server that is open to all says this word.
 *
 * @category authorization
 * @since 0.1.0
 */
export const allowAll: Authorize<unknown> = () => Effect.succeed(true)

/**
 * What a client may cost. Counts may be `Infinity`, except where the client is told the number;
 * anything that is no number in its range is refused at start with `InvalidOption`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Limits {
  /** Largest message of a client, default 64 KiB (65,536 bytes). A larger one closes with 1009. */
  readonly maxFrameBytes?: number | undefined
  /** How deep a frame may nest, default 64 levels; more than 1,000 counts as 1,000. A deeper one is `frame/malformed`. */
  readonly maxFrameDepth?: number | undefined
  /** Messages of a session, default 200/s and 400 at once. More close with 4003. */
  readonly frameRate?: Rate | undefined
  /** Requests of a session that wait for their answer, default 100. One more closes with 4003. */
  readonly maxUnanswered?: number | undefined
  /**
   * Requests of a session that wait for their answer, default 256 KiB (262,144 bytes) of text, and 56
   * bytes more for each object and list in them. Beyond it the socket is not read until some are
   * answered.
   */
  readonly maxUnansweredBytes?: number | undefined
  /** `authenticate` of a session, default 1/s and 5 at once. More are `rate/limited`. */
  readonly authenticateRate?: Rate | undefined
  /**
   * `subscribe` of a session, default 50/s and 100 at once. More are `rate/limited`. A replay counts as
   * one more for each 64 KiB of payload, so that a short cursor does not cost more than it may.
   */
  readonly subscribeRate?: Rate | undefined
  /** `publish` of a session, default 20/s and 50 at once. More are `rate/limited`. */
  readonly publishRate?: Rate | undefined
  /** Time a client has to say hello, default 10 s. Then it is closed with 4005. */
  readonly helloTimeout?: Duration.Input | undefined
  /** Silence, in either direction, after which the server sends a ping, default 25 s. */
  readonly pingInterval?: Duration.Input | undefined
  /** Time beyond `pingInterval` that a client may stay silent, default 10 s. Then it is closed with 4002. */
  readonly pingTimeout?: Duration.Input | undefined
  /**
   * Events that wait for one socket that does not keep up, default 1 MiB (1,048,576 bytes), together
   * with what is held until a replay is there, which is at most half of it. At the limit waiting events
   * are dropped: live channels are told `gap slow`, durable ones read on from what stayed; see
   * `slowConsumer`. Answers are never dropped and count apart: a socket that has more than as many bytes
   * of them waiting is closed with 4001, so both together are at most twice the limit.
   */
  readonly maxMailboxBytes?: number | undefined
  /**
   * Time a socket has to take the next 64 KiB (or one larger frame) of its backlog, default 30 s. Then it
   * is closed with 4001.
   */
  readonly blockedTimeout?: Duration.Input | undefined
  /** Subscriptions of a session, default 100. One more is answered `subscribe/limit`. */
  readonly maxSubscriptions?: number | undefined
  /** Sessions of this node, default 10,000. One more is refused with 503. */
  readonly maxSessions?: number | undefined
  /** Sessions of one identity, default 20. One more is closed with 4004 after its hello. */
  readonly maxSessionsPerIdentity?: number | undefined
  /**
   * Sessions of one address, default 100. One more is refused with 429. An IPv6 address counts by its
   * first 64 bits, which is what one customer has. See `trustProxy`.
   */
  readonly maxSessionsPerAddress?: number | undefined
  /** Upgrades of this node, default 500/s and 500 at once. More are refused with 503. */
  readonly upgradeRate?: Rate | undefined
  /** Upgrades of one address, default 20/s and 40 at once. More are refused with 429. */
  readonly upgradeRatePerAddress?: Rate | undefined
  /**
   * Channels that the sessions of this node open together, default 200/s and 1,000 at once. A channel that
   * somebody here has open, or had within `linger`, costs nothing. More are answered `server/overloaded`
   * with `retryAfter`.
   */
  readonly channelOpenRate?: Rate | undefined
  /**
   * How often this node asks `authorize` for all its sessions together, default 1,000/s and 1,000 at once;
   * `allowAll` does not count. More are answered `server/overloaded` with `retryAfter`. When rights are
   * looked at anew they wait instead, within `authorizeTimeout`.
   */
  readonly authorizeRate?: Rate | undefined
  /**
   * Keys of publishes that this node remembers for all its clients, default 500,000, about 100 MB of the
   * heap. At the limit the identity that publishes loses its oldest key, never its only one: a client that
   * sends that publish again, because its answer was lost, publishes it twice. On a durable channel it does
   * not: there the database remembers the keys.
   */
  readonly maxPublishKeys?: number | undefined
  /**
   * Keys of publishes that this node remembers for one identity, default 10,000; all clients without one
   * count as one. At the limit the oldest key is forgotten, as with `maxPublishKeys`.
   */
  readonly maxPublishKeysPerIdentity?: number | undefined
  /**
   * How long this node remembers the key of a publish, default 10 minutes. A client that sends a publish
   * again later publishes it twice, so this must be longer than `maxAge` of its `PublishQueue`.
   */
  readonly maxPublishKeyAge?: Duration.Input | undefined
  /**
   * Time a subscription waits for the source, default 10 s. Then it is answered `source/down`; while the
   * source is up and only others are before it, `server/overloaded` with `retryAfter`.
   */
  readonly sourceTimeout?: Duration.Input | undefined
  /**
   * Time that `authenticate` and `authorize` have, default 5 s. Then: `server/internal`. When the rights
   * of a session are looked at anew, all its subscriptions have it together, 16 at once; those that
   * nobody decided about by then end with `server/overloaded`, and come back.
   */
  readonly authorizeTimeout?: Duration.Input | undefined
  /** The longest a proof of identity is believed, default as long as it says. Then: 4100. */
  readonly maxTokenAge?: Duration.Input | undefined
  /**
   * Time sockets have to leave when the server closes, default 10 s. Closes are spread over it, a
   * session each 50 ms where they are few; who is still there at its end is cut.
   */
  readonly drainTimeout?: Duration.Input | undefined
}

/**
 * What every door is told, whoever comes in.
 *
 * @category models
 * @since 0.1.0
 */
export interface DoorOptions<
  out Channels extends ReadonlyArray<Channel.Definition> = ReadonlyArray<Channel.Definition>
> {
  /** What clients may know of. A channel that is not here does not exist for them. */
  readonly channels: Channels
  /** Where the WebSocket is, default `/realtime`. A query string and a slash at the end are ignored. */
  readonly path?: `/${string}` | undefined
  /**
   * Which pages may connect, default the same origin: `Origin` must have the host and port of `Host`.
   * A list names whole origins (`https://app.example.com`). A request without `Origin` does not come
   * from a browser page and passes.
   */
  readonly origins?: ReadonlyArray<string> | "any" | undefined
  /**
   * How many proxies in front are yours, default 0. Only then are `X-Forwarded-For` and
   * `X-Forwarded-Host` believed (that many entries from the right), and only then do the limits by
   * address count loopback and private addresses: without it everybody behind a proxy would be one.
   */
  readonly trustProxy?: number | undefined
  /**
   * What to do with a socket whose backlog is full, default `gap`: drop the backlog and tell
   * `gap slow`. `disconnect` closes it with 4001; it comes back and resumes from its cursors.
   */
  readonly slowConsumer?: "gap" | "disconnect" | undefined
  readonly limits?: Limits | undefined
}

/**
 * A door that everybody enters without a name.
 *
 * @category models
 * @since 0.1.0
 */
export interface AnonymousOptions<
  R = never,
  out Channels extends ReadonlyArray<Channel.Definition> = ReadonlyArray<Channel.Definition>
> extends DoorOptions<Channels> {
  readonly authenticate?: undefined
  readonly identityKey?: undefined
  /** Who may do what: a function, or `allowAll` for a server that is open to everybody. */
  readonly authorize: Authorize<undefined, R>
}

/**
 * A door that asks who comes in.
 *
 * @category models
 * @since 0.1.0
 */
export interface IdentityOptions<
  I,
  R = never,
  out Channels extends ReadonlyArray<Channel.Definition> = ReadonlyArray<Channel.Definition>
> extends DoorOptions<Channels> {
  /** Tells who a client is, from its token, cookie or header. */
  readonly authenticate: Authenticate<I, R>
  /** Who may do what: a function, or `allowAll` for a server that is open to everybody. */
  readonly authorize: Authorize<I, R>
  /**
   * The text that makes two identities the same person: for limits, publish keys, fresh tokens, `revoke`
   * and `reauthorize`. It must be what never changes of somebody, an id and not a role. Default: the
   * identity itself when it is a string; for every other type it is required.
   */
  readonly identityKey?: ((identity: I) => string) | undefined
}

/**
 * What makes `identityKey` required, unless identities are strings, or there are none.
 *
 * @category models
 * @since 0.1.0
 */
export type IdentityKey<I> = unknown extends I
  ? unknown // The compiler has not found it out yet; it asks again.
  : [I] extends [string]
    ? unknown
    : [I] extends [undefined]
      ? unknown
      : { readonly identityKey: (identity: I) => string }

/**
 * @category models
 * @since 0.1.0
 */
export type Options<I, R = never> = AnonymousOptions<R> | IdentityOptions<I, R>
