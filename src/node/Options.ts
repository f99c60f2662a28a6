/**
 * What the class of `./node` is told: the options of any door, where the database is, and how a callback
 * may answer.
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
 * What a callback may give: the value, a Promise of it, or an Effect.
 *
 * @category models
 * @since 0.1.0
 */
export type Eventually<A, E = never> = A | Promise<A> | Effect.Effect<A, E>

/**
 * What the class takes beside the HTTP server and the database URL.
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
  /** What clients may know of, default the three known kinds, read-only. */
  readonly channels?: ReadonlyArray<Channel.Definition> | undefined
  /**
   * Tells who a client is, from its token, cookie or header; default: nobody is asked. Throw, reject or
   * fail with `AuthRefused` to keep somebody out.
   */
  readonly authenticate?:
    | ((credentials: Credentials) => Eventually<Authenticated<I>, AuthRefused>)
    | undefined
  /**
   * Who may do what. Without it everybody may, with one warning; in production the server refuses to
   * start without it. What it throws or rejects with is answered `server/internal`.
   */
  readonly authorize?: ((request: Request<I>) => Eventually<boolean>) | undefined
  /**
   * The text that makes two identities the same person, required unless they are strings; see
   * `IdentityOptions` of the server.
   */
  readonly identityKey?: ((identity: I) => string) | undefined
  /**
   * Where the link, and the reader of the outbox, connect when the database URL leads to a transaction
   * pooler.
   */
  readonly listenUrl?: string | undefined
  /** The schema of the installed objects, default `realtime`; see `PgInstaller`. */
  readonly schema?: string | undefined
  /** Connections of the pool that publishes, default 4. The link is one more. */
  readonly maxConnections?: number | undefined
  /**
   * `poll` reads the outbox without LISTEN: for a database behind a transaction pooler. Where all channels
   * are durable, and there is no `listenUrl`, no link is opened then.
   */
  readonly wake?: "poll" | undefined
  /**
   * Time over which PostgreSQL must refuse before that is believed, default 10 s: until the server was up
   * once, three connections in a row must have been told the same for so long. Then `ready` rejects.
   */
  readonly startPatience?: Duration.Input | undefined
}
