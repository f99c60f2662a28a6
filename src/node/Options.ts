/**
 * The options of the class of `./node`: those of every door, those of the database, and the results that
 * a callback may give; and the options and the handle of its consumers.
 *
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Schema from "effect/Schema"
import type * as Channel from "../Channel.ts"
import type { RealtimeEvent } from "../RealtimeEvent.ts"
import type { Nodes } from "../server/Nodes.ts"
import type * as OutboxReader from "../server/OutboxReader.ts"
import type * as Realtime from "../server/Realtime.ts"
import type { Limited, RuleMaker, Rules } from "../server/Rule.ts"
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
    Pick<
      Realtime.Options,
      | "maxChannels"
      | "maxFilters"
      | "maxStateRows"
      | "maxStateBytes"
      | "presenceGrace"
      | "maxMembers"
      | "memberRate"
    >,
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
   * Whether a client may do what it requests, or with `{ where }` which rows of a table it may see; see
   * `Limited`. Without it and without `rules` every client may, with one
   * warning; in production the server does not start then. When it throws or rejects, the client is answered
   * `server/internal`.
   */
  readonly authorize?: ((request: Request<I>) => Eventually<boolean | Limited>) | undefined
  /**
   * Rules for each definition, in the place of `authorize`: which clients may subscribe, and what their
   * publishes and their states become. Exactly one `onSubscribe` for each definition of `channels`, one
   * `onPublish` for each with `publish`, and one `onPresent` for each presence channel. Throw, reject or fail with `RuleRefused` to reject a request with a sentence.
   */
  readonly rules?: ((make: RuleMaker<I>) => Rules<never>) | undefined
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
  /**
   * What joins this server with other nodes: `Nats.nodes` of `effect-realtime/nats`. One node then reads the
   * outbox and listens for all of them, and presence, volatile channels and `control` reach all of them. It
   * needs the installed objects. Default: with `control` PostgreSQL joins the nodes, else nothing does.
   */
  readonly nodes?: Nodes | undefined
  /** The schema of the installed objects, default `realtime`; see `PgInstaller`. */
  readonly schema?: string | undefined
  /** Connections of the pool that publishes, default 4. The link uses one more, and with `control` the bus. */
  readonly maxConnections?: number | undefined
  /**
   * `poll` reads the outbox without LISTEN: for a database behind a transaction pooler. The server then
   * opens no link when no channel is live, one is durable, and there is no `listenUrl`.
   */
  readonly wake?: "poll" | undefined
  /**
   * How long PostgreSQL must reject the server before `ready` rejects, default 10 s. Until the server was
   * up once, three connections in a row must be rejected for the same reason over this time.
   */
  readonly startPatience?: Duration.Input | undefined
}

/**
 * How `snapshot` reads the rows of its query.
 *
 * @category models
 * @since 0.1.0
 */
export interface SnapshotOptions<A = unknown, I = unknown> {
  /** Decodes each row. Default: rows are `unknown`, with the values of events. */
  readonly row?: Schema.Codec<A, I> | undefined
}

/**
 * The server as a member of a presence channel. It leaves with `leave`, and when the server closes.
 *
 * @category models
 * @since 0.1.0
 */
export interface PresentMember<in A> extends AsyncDisposable {
  /** Names the member, as in the list of members. */
  readonly member: string
  /** Shows another state. Rejects with `InvalidPayload`, and with `PayloadTooLarge` beyond 2,048 bytes of JSON. */
  readonly update: (state: A) => Promise<void>
  /** Leaves at once. */
  readonly leave: () => Promise<void>
}

/**
 * The transaction of a batch. PostgreSQL commits the changes of its queries together with the consumer's
 * cursor, or neither.
 *
 * @category models
 * @since 0.1.0
 */
export interface Transaction {
  /**
   * Runs one statement and gives its rows as the driver decodes them (bigint for `int8`, `Date` for
   * `timestamptz`, text for `numeric`). `values` are those of `$1`, `$2` and so on. Rejects with
   * `TransactionError`. After that PostgreSQL rejects all other queries of the batch, and rolls it back.
   */
  readonly query: (
    text: string,
    values?: ReadonlyArray<unknown>
  ) => Promise<ReadonlyArray<Readonly<Record<string, unknown>>>>
}

/**
 * The options of `consume`.
 *
 * @category models
 * @since 0.1.0
 */
export interface ConsumeOptions<in A> {
  /** 1-200 bytes; one name per channel. The database keeps its cursor. */
  readonly name: string
  /** Where a name without a cursor begins: `now` (default), the `oldest` retained event, or a cursor. */
  readonly start?: "now" | "oldest" | { readonly cursor: string } | undefined
  /**
   * Handles a batch inside of `transaction`. A gap is among the events in its place. When it throws or
   * rejects, the server rolls the batch back and hands it over again.
   */
  readonly onEvents: (
    events: ReadonlyArray<RealtimeEvent<A>>,
    transaction: Transaction
  ) => Eventually<void, unknown>
  /**
   * Runs once per failed attempt, with what `onEvents` threw, a `TransactionError`, or the reason why the
   * outbox cannot be read. The consumer retries after at most 100 ms at first, and at most 10 s later.
   * Default: a warning in the log.
   */
  readonly onError?: ((error: unknown) => void) | undefined
}

/**
 * The handle of a running consumer.
 *
 * @category models
 * @since 0.1.0
 */
export interface Consumer extends AsyncDisposable {
  /**
   * Resolves when the consumer is stopped or its server is closed. Rejects with `ConsumerConflict` when
   * the name belongs to another channel, and when the server cannot start.
   */
  readonly done: Promise<void>
  /**
   * Waits at most 1 s until the present batch is committed, then rolls it back. Starts no other batch. Do
   * not await it inside of `onEvents`.
   */
  readonly stop: () => Promise<void>
}
