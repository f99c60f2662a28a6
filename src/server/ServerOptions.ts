/**
 * The options of a WebSocket door: its channels, authentication and authorization, and its limits.
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
import type { CompleteRules, Limited, RuleMaker, Rules } from "./Rule.ts"

export type {
  /**
   * @category models
   * @since 0.1.0
   */
  Rate
} from "./internal/options.ts"

/**
 * What a client sends to prove its identity.
 *
 * @category models
 * @since 0.1.0
 */
export interface Credentials {
  /** The token of `hello` or `authenticate`. Tokens never travel in a URL. */
  readonly token: string | undefined
  /**
   * The headers of the upgrade request, including cookies, without `Sec-WebSocket-*`, `Upgrade` and
   * `Connection`.
   */
  readonly headers: IncomingHttpHeaders
  /** The client's address. Behind a proxy it is taken from the headers that `trustProxy` allows. */
  readonly address: string
}

/**
 * The identity of a client, and how long it is valid.
 *
 * @category models
 * @since 0.1.0
 */
export interface Authenticated<I> {
  /** The identity, for `authorize`. */
  readonly identity: I
  /**
   * When the identity expires. The server asks the client for a fresh token before, and closes with 4100
   * then. An invalid `Date` counts as a failure of `authenticate`.
   */
  readonly expires?: Date | undefined
  /**
   * When the token was issued, or the session of your application began. `revoke` of an identity refuses
   * what was issued before. Without it, it refuses every token of the identity until the revocation expires.
   */
  readonly issued?: Date | undefined
  /** A name of the token for `revoke({ token })`, such as the claim `jti`; not the token itself. */
  readonly token?: string | undefined
}

/**
 * The error with which `authenticate` rejects a client. After `auth/expired` the client may reconnect
 * with a fresh token; after the other codes it stops.
 *
 * @category errors
 * @since 0.1.0
 */
export class AuthRefused extends Schema.TaggedError<AuthRefused>()("AuthRefused", {
  code: Schema.Literals(["auth/required", "auth/invalid", "auth/expired"]),
  /**
   * Why, for the log of the server and with the cure, such as `It has no claim "exp". Let its issuer set one`.
   * The client never receives it. Holds nothing of the token, and one text for each kind of fault.
   */
  why: Schema.optionalKey(Schema.String)
}) {
  override get message(): string {
    return errorCodes[this.code].sentence
  }
}

/**
 * Finds the identity of a client. It has 5 s. After that, and when it dies, the client is answered
 * `server/internal` and may reconnect.
 *
 * @category models
 * @since 0.1.0
 */
export type Authenticate<I, R = never> = (
  credentials: Credentials
) => Effect.Effect<Authenticated<I>, AuthRefused, R>

/**
 * What a client wants to do on a channel: `subscribe`, `publish`, or on a presence channel `present`, which is
 * to be a member with a state that the others see.
 *
 * @category models
 * @since 0.1.0
 */
export type Action = "subscribe" | "publish" | "present"

/**
 * A request of a client, for `authorize`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Request<I = undefined> {
  /**
   * The identity of the client, as `authenticate` gave it; `undefined` on a server without
   * `authenticate`.
   */
  readonly identity: I
  /** The name of the channel, e.g. `query_results_42`. */
  readonly channel: string
  /** The definition that matched the name. */
  readonly definition: Channel.Definition
  /** The decoded parameter of a family, e.g. `"42"`; `undefined` for a single channel. */
  readonly params: unknown
  /**
   * What the client wants to do on the channel. About publishes on a volatile channel, and about `present`, the
   * server asks at most once a second for each session and channel, and after `reauthorize` or a fresh token.
   */
  readonly action: Action
}

/**
 * Decides whether a client may do what it requests, and with `{ where }` which rows of a table it may see;
 * see `Limited`. It has 5 s. After that, and when it dies, the client
 * is answered `server/internal` and may retry.
 *
 * @category models
 * @since 0.1.0
 */
export type Authorize<I = undefined, R = never> = (
  request: Request<I>
) => Effect.Effect<boolean | Limited, never, R>

/**
 * Lets every client subscribe to every channel of the server, and publish where the channel allows it.
 * There is no default for `authorize`, so an open server says so with this function.
 *
 * @category authorization
 * @since 0.1.0
 */
export const allowAll: Authorize<unknown> = () => Effect.succeed(true)

/**
 * The limits of a server. Counts are 1 or more, because 0 of anything serves no client. They may be
 * `Infinity`, except those that the server sends to clients. The server does not start with a value outside
 * its range (`InvalidOption`).
 *
 * @category models
 * @since 0.1.0
 */
export interface Limits {
  /** Largest message of a client, default 64 KiB (65,536 bytes). A larger one closes with 1009. */
  readonly maxFrameBytes?: number | undefined
  /**
   * How deep a frame may nest, default 64 levels; more than 1,000 counts as 1,000. A deeper one is
   * `frame/malformed`.
   */
  readonly maxFrameDepth?: number | undefined
  /** Messages of a session, default 200/s and 400 at once. More close with 4003. */
  readonly frameRate?: Rate | undefined
  /** Requests of a session that wait for their answer, default 100. One more closes with 4003. */
  readonly maxUnanswered?: number | undefined
  /**
   * Requests of a session that wait for their answer, default 256 KiB (262,144 bytes) of text, and 56
   * bytes more for each object and list in them. Beyond it the server stops reading the socket until some
   * are answered.
   */
  readonly maxUnansweredBytes?: number | undefined
  /** `authenticate` of a session, default 1/s and 5 at once. More are answered `rate/limited`. */
  readonly authenticateRate?: Rate | undefined
  /**
   * `subscribe` and `state` of a session, default 50/s and 100 at once. More are answered `rate/limited`. A replay
   * or a state counts as one more for each 64 KiB of payload, so that a client cannot cause unlimited
   * reads with small frames.
   */
  readonly subscribeRate?: Rate | undefined
  /** `publish` of a session, default 20/s and 50 at once. More are answered `rate/limited`. */
  readonly publishRate?: Rate | undefined
  /**
   * `publish` of a session on all its volatile channels together, default 60/s and 120 at once. More are
   * answered `rate/limited` and dropped. A client of this library keeps to the rate, and sends the newest
   * event of each key.
   */
  readonly volatileRate?: Rate | undefined
  /** Time for a client to send hello, default 10 s. After that the server closes with 4005. */
  readonly helloTimeout?: Duration.Input | undefined
  /** Silence, in either direction, after which the server sends a ping, default 25 s. */
  readonly pingInterval?: Duration.Input | undefined
  /**
   * Time beyond `pingInterval` that a client may stay silent, default 10 s. After that the server closes
   * with 4002.
   */
  readonly pingTimeout?: Duration.Input | undefined
  /**
   * Events that wait for one slow socket, default 1 MiB (1,048,576 bytes), together with the events held
   * back until a replay is ready, which are at most half of it. At the limit the server drops waiting
   * events: live channels receive `gap slow`, and durable ones are read again from the last event that
   * stayed; see `slowConsumer`. Answers are never dropped and count apart: a socket with more waiting
   * answers than this is closed with 4001, so both together are at most twice the limit.
   */
  readonly maxMailboxBytes?: number | undefined
  /**
   * Volatile events that wait for one slow socket, default 1,000, one for each channel and key, and
   * together at most `maxMailboxBytes`. At the limit the server drops the oldest. They count apart: they
   * cause no `gap slow` and no close.
   */
  readonly maxVolatileKeys?: number | undefined
  /**
   * Time for a socket to take the next 64 KiB (or one larger frame) of its backlog, default 30 s. After
   * that the server closes with 4001.
   */
  readonly blockedTimeout?: Duration.Input | undefined
  /** Subscriptions of a session, default 100. One more is answered `subscribe/limit`. */
  readonly maxSubscriptions?: number | undefined
  /** Sessions of this node, default 10,000. One more is rejected with 503. */
  readonly maxSessions?: number | undefined
  /** Sessions of one identity, default 20. One more is closed with 4004 after its hello. */
  readonly maxSessionsPerIdentity?: number | undefined
  /**
   * Sessions of one address, default 100. One more is rejected with 429. An IPv6 address counts by its
   * first 64 bits, the block of one customer. See `trustProxy`.
   */
  readonly maxSessionsPerAddress?: number | undefined
  /** Upgrades of this node, default 500/s and 500 at once. More are rejected with 503. */
  readonly upgradeRate?: Rate | undefined
  /** Upgrades of one address, default 20/s and 40 at once. More are rejected with 429. */
  readonly upgradeRatePerAddress?: Rate | undefined
  /**
   * Channels that the sessions of this node open together, default 200/s and 1,000 at once. A channel
   * that a session has open, or had within `linger`, does not count. More are answered
   * `server/overloaded` with `retryAfter`.
   */
  readonly channelOpenRate?: Rate | undefined
  /**
   * Calls of `authorize` or of rules on this node for all its sessions together, default 1,000/s and 1,000
   * at once; `allowAll` does not count, nor do rules for volatile publishes. More are answered `server/overloaded` with `retryAfter`. When the
   * server checks rights again the calls wait instead, within `authorizeTimeout`.
   */
  readonly authorizeRate?: Rate | undefined
  /**
   * Keys of publishes that this node remembers for all its clients, default 500,000, about 100 MB of the
   * heap. At the limit the identity that publishes loses its oldest key, but never its only one. A client
   * that lost the answer of that publish and sends it again publishes it twice. On a durable channel it
   * does not, because the database remembers the keys.
   */
  readonly maxPublishKeys?: number | undefined
  /**
   * Keys of publishes that this node remembers for one identity, default 10,000. All clients without an
   * identity count as one. At the limit the oldest key is dropped, as with `maxPublishKeys`.
   */
  readonly maxPublishKeysPerIdentity?: number | undefined
  /**
   * How long this node remembers the key of a publish, default 10 minutes. A client that sends a publish
   * again later publishes it twice, so this must be longer than `maxAge` of its `PublishQueue`.
   */
  readonly maxPublishKeyAge?: Duration.Input | undefined
  /**
   * Time a subscription waits for the source, default 10 s. After that it is answered `source/down`, or
   * `server/overloaded` with `retryAfter` when the source is up and other subscriptions are first.
   */
  readonly sourceTimeout?: Duration.Input | undefined
  /**
   * Time for `authenticate`, `authorize` and each rule, default 5 s. After that the answer is `server/internal`.
   * When the server checks the rights of a session again, all its subscriptions share the time, 16 at
   * once. Those without a decision by then end with `server/overloaded`, and the client subscribes again.
   */
  readonly authorizeTimeout?: Duration.Input | undefined
  /**
   * The longest time that an identity is valid, default as long as it says. After that the server closes
   * with 4100.
   */
  readonly maxTokenAge?: Duration.Input | undefined
  /**
   * Time for clients to leave when the server closes, default 10 s. The closes are spread over it, one
   * each 50 ms when there are few sessions. Sessions that remain at its end are cut.
   */
  readonly drainTimeout?: Duration.Input | undefined
}

/**
 * The options of every door, with or without identities.
 *
 * @category models
 * @since 0.1.0
 */
export interface DoorOptions<
  out Channels extends ReadonlyArray<Channel.Definition> = ReadonlyArray<Channel.Definition>
> {
  /** The channels and families that clients may use. Other channels do not exist for clients. */
  readonly channels: Channels
  /**
   * The path of the WebSocket, default `/realtime`. The server ignores a query string and a slash at the
   * end.
   */
  readonly path?: `/${string}` | undefined
  /**
   * Which pages may connect, default the same origin: `Origin` must have the host and port of `Host`. A
   * list has whole origins (`https://app.example.com`). A request without `Origin` is not from a browser
   * page and passes.
   */
  readonly origins?: ReadonlyArray<string> | "any" | undefined
  /**
   * How many of your own proxies are in front of the server, default 0. The server trusts that many
   * entries of `X-Forwarded-For` and `X-Forwarded-Host`, from the right. With 0 the limits by address do
   * not count loopback and private addresses, because all clients behind a proxy would share one.
   */
  readonly trustProxy?: number | undefined
  /**
   * What to do with a socket whose backlog is full, default `gap`: drop the backlog and send `gap slow`.
   * `disconnect` closes it with 4001; the client reconnects and resumes from its cursors.
   */
  readonly slowConsumer?: "gap" | "disconnect" | undefined
  /**
   * Whether `revoke`, `reauthorize`, `disconnect` and `stats` reach all nodes, default `false`: this one only.
   * Needs the installed objects, a `PgClient`, and a `NodeBus` beneath; the server does not start without
   * (`NoControl`). A node that could not read revocations for 30 s answers a new session
   * `server/overloaded` and closes it with 4003; open sessions stay. The class of `./node` has its bus with
   * this option or `nodes`: without both, presence and volatile channels end at the node.
   */
  readonly control?: boolean | undefined
  /** The limits of sessions and of the node. */
  readonly limits?: Limits | undefined
}

/**
 * The options of a door without identities.
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
  /**
   * Whether a client may do what it requests: a function, or `allowAll` for a server that is open to all
   * clients.
   */
  readonly authorize: Authorize<undefined, R>
  readonly rules?: undefined
}

/**
 * The options of a door that authenticates its clients.
 *
 * @category models
 * @since 0.1.0
 */
export interface IdentityOptions<
  I,
  R = never,
  out Channels extends ReadonlyArray<Channel.Definition> = ReadonlyArray<Channel.Definition>
> extends DoorOptions<Channels> {
  /** Finds the identity of a client from its token, cookie or header. */
  readonly authenticate: Authenticate<I, R>
  /**
   * Whether a client may do what it requests: a function, or `allowAll` for a server that is open to all
   * clients.
   */
  readonly authorize: Authorize<I, R>
  readonly rules?: undefined
  /**
   * The text that identifies a user across sessions: for limits, publish keys, fresh tokens, `revoke` and
   * `reauthorize`. It must never change for a user: use an id and not a role. Default: the identity
   * itself when it is a string; for every other type it is required.
   */
  readonly identityKey?: ((identity: I) => string) | undefined
}

/**
 * Rules for each definition, in the place of `authorize`. A server has one or the other.
 *
 * @category models
 * @since 0.1.0
 */
export interface RuleOptions<
  I,
  out Channels extends ReadonlyArray<Channel.Definition> = ReadonlyArray<Channel.Definition>,
  List extends Rules = Rules
> {
  readonly authorize?: undefined
  /**
   * Which clients may subscribe, and what their publishes and their states become: exactly one `onSubscribe`
   * for each definition of `channels`, one `onPublish` for each with `publish`, and one `onPresent` for each
   * presence channel. The server does not start when one is missing, so no definition is open or closed by
   * accident.
   */
  readonly rules: (make: RuleMaker<I>) => List & CompleteRules<Channels[number], NoInfer<List>>
}

/**
 * The options of a door without identities, with rules.
 *
 * @category models
 * @since 0.1.0
 */
export interface AnonymousRules<
  Channels extends ReadonlyArray<Channel.Definition> = ReadonlyArray<Channel.Definition>,
  List extends Rules = Rules
>
  extends
    Omit<AnonymousOptions<never, Channels>, "authorize" | "rules">,
    RuleOptions<undefined, Channels, List> {}

/**
 * The options of a door that authenticates its clients, with rules.
 *
 * @category models
 * @since 0.1.0
 */
export interface IdentityRules<
  I,
  R = never,
  Channels extends ReadonlyArray<Channel.Definition> = ReadonlyArray<Channel.Definition>,
  List extends Rules = Rules
>
  extends
    Omit<IdentityOptions<I, R, Channels>, "authorize" | "rules">,
    RuleOptions<I, Channels, List> {}

/**
 * Makes `identityKey` required, unless identities are strings or there are none.
 *
 * @category models
 * @since 0.1.0
 */
export type IdentityKey<I> = unknown extends I
  ? unknown // The compiler has not inferred it yet, and checks again.
  : [I] extends [string]
    ? unknown
    : [I] extends [undefined]
      ? unknown
      : { readonly identityKey: (identity: I) => string }

/**
 * The options of a door, with or without identities.
 *
 * @category models
 * @since 0.1.0
 */
export type Options<I, R = never> =
  | AnonymousOptions<R>
  | AnonymousRules
  | IdentityOptions<I, R>
  | IdentityRules<I, R>
