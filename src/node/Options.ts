/**
 * The options of the class of `./node`: those of every door, those of the database, and the results that
 * a callback may give.
 *
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Channel from "../Channel.ts"
import type * as OutboxReader from "../server/OutboxReader.ts"
import type * as Realtime from "../server/Realtime.ts"
import type {
  Authenticated,
  AuthRefused,
  Credentials,
  DoorOptions,
  Request
} from "../server/ServerOptions.ts"

/**
 * The result of a callback: the value, a Promise of it, or an Effect.
 *
 * @category models
 * @since 0.1.0
 */
export type Eventually<A, E = never> = A | Promise<A> | Effect.Effect<A, E>

/**
 * The options of the class, beside the HTTP server and the database URL.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options<I = undefined>
  extends
    Omit<DoorOptions, "channels">,
    Pick<Realtime.Options, "maxChannels">,
    Pick<
      OutboxReader.Options,
      | "maxMemoryEvents"
      | "maxMemoryAge"
      | "maxMemoryBytes"
      | "maxReplays"
      | "maxReplayQueue"
      | "maxReplayMemory"
    > {
  /** The channels and families that clients may use, default the three known kinds, read-only. */
  readonly channels?: ReadonlyArray<Channel.Definition> | undefined
  /**
   * Finds the identity of a client from its token, cookie or header. Default: the server authenticates no
   * client. Throw, reject or fail with `AuthRefused` to reject the client.
   */
  readonly authenticate?:
    | ((credentials: Credentials) => Eventually<Authenticated<I>, AuthRefused>)
    | undefined
  /**
   * Whether a client may do what it requests. Without it every client may, with one warning; in
   * production the server does not start without it. When it throws or rejects, the client is answered
   * `server/internal`.
   */
  readonly authorize?: ((request: Request<I>) => Eventually<boolean>) | undefined
  /**
   * The text that identifies a user across sessions, required unless identities are strings; see
   * `IdentityOptions` of the server.
   */
  readonly identityKey?: ((identity: I) => string) | undefined
  /**
   * Where the link and the reader of the outbox connect, default the database URL. Pass a direct address
   * when the database URL leads to a transaction pooler.
   */
  readonly listenUrl?: string | undefined
  /** The schema of the installed objects, default `realtime`; see `PgInstaller`. */
  readonly schema?: string | undefined
  /** Connections of the pool that publishes, default 4. The link uses one more. */
  readonly maxConnections?: number | undefined
  /**
   * `poll` reads the outbox without LISTEN: for a database behind a transaction pooler. The server then
   * opens no link when all channels are durable and there is no `listenUrl`.
   */
  readonly wake?: "poll" | undefined
  /**
   * How long PostgreSQL must reject the server before `ready` rejects, default 10 s. Until the server was
   * up once, three connections in a row must be rejected for the same reason over this time.
   */
  readonly startPatience?: Duration.Input | undefined
}
