/**
 * What the class of `./node` is told: the options of any door, where the database is, and how a callback
 * may answer; and what its consumers are told and give.
 *
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Schema from "effect/Schema"
import type * as Channel from "../Channel.ts"
import type { RealtimeEvent } from "../RealtimeEvent.ts"
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

/**
 * How `snapshot` reads the rows of its query.
 *
 * @category models
 * @since 0.1.0
 */
export interface SnapshotOptions<A = unknown, I = unknown> {
  /** Reads each row; default: rows are `unknown`, with the values that an event would have. */
  readonly row?: Schema.Codec<A, I> | undefined
}

/**
 * The transaction of a batch: what its queries change is committed together with the consumer's cursor,
 * or not at all.
 *
 * @category models
 * @since 0.1.0
 */
export interface Transaction {
  /**
   * Runs one statement and gives its rows as the driver reads them (bigint for `int8`, `Date` for
   * `timestamptz`, text for `numeric`). `values` are those of `$1`, `$2` and so on. Rejects with
   * `TransactionError`; PostgreSQL then takes no other query of this batch, and rolls it back.
   */
  readonly query: (
    text: string,
    values?: ReadonlyArray<unknown>
  ) => Promise<ReadonlyArray<Readonly<Record<string, unknown>>>>
}

/**
 * What `consume` takes.
 *
 * @category models
 * @since 0.1.0
 */
export interface ConsumeOptions<in A> {
  /** 1-200 bytes; one name per channel. Its cursor is kept in the database. */
  readonly name: string
  /** Where a name begins that has no cursor yet: `now` (default), the `oldest` event kept, or a cursor. */
  readonly start?: "now" | "oldest" | { readonly cursor: string } | undefined
  /**
   * Handles a batch inside of `transaction`. A gap is among the events in its place. When it throws or
   * rejects, the batch is rolled back and handed to it again.
   */
  readonly onEvents: (
    events: ReadonlyArray<RealtimeEvent<A>>,
    transaction: Transaction
  ) => Eventually<void, unknown>
  /**
   * Told once for each try that failed: what `onEvents` threw, a `TransactionError`, or why the outbox
   * cannot be read. The consumer goes on by itself, within 100 ms at first, at most every 10 s later.
   * Default: a warning in the log.
   */
  readonly onError?: ((error: unknown) => void) | undefined
}

/**
 * A consumer that runs.
 *
 * @category models
 * @since 0.1.0
 */
export interface Consumer extends AsyncDisposable {
  /**
   * Resolves when it has been stopped, or its server closed. Rejects when it cannot go on: with
   * `ConsumerConflict` when its name belongs to another channel, and with what ended the server's start.
   */
  readonly done: Promise<void>
  /**
   * Takes no new batch, waits up to 1 s until the one in hand is committed, and rolls it back then. Do not
   * await it inside of `onEvents`.
   */
  readonly stop: () => Promise<void>
}
