/**
 * The options of a reader of the outbox in PostgreSQL. Validates the options of a reader of the outbox and fills in their defaults, for PostgreSQL and for the
 * memory.
 */
import * as Duration from "effect/Duration"
import type * as Redacted from "effect/Redacted"
import type * as Backoff from "../../../Backoff.ts"
import { outboxReader as Defaults } from "../../../internal/defaults.ts"
import type { RingLimits } from "../ring.ts"
import { type GivenRing, ringLimits } from "../ringLimits.ts"
import { count, millis } from "../options.ts"
import type { ReplayLimits } from "./replayAdmission.ts"
import type { Bounds } from "./replayBounds.ts"
import type { PageLimits } from "./outbox.ts"

/**
 * Options of `layer` and `make`.
 *
 * @category models
 * @since 0.1.0
 */
export interface OutboxOptions {
  /**
   * The schema of the objects, default that of `SchemaName`, which is `realtime`. Use the same as for
   * `PgInstaller`.
   */
  readonly schema?: string | undefined
  /**
   * Where the reader connects, default: where the `PgClient` connects. Pass the direct address of the
   * primary when the pool connects through a transaction pooler.
   */
  readonly readUrl?: Redacted.Redacted | undefined
  /**
   * `poll` never LISTENs, whatever the database's setting: for a reader behind a transaction pooler.
   * Default: what the database says (`PgInstaller.install({ wake })`).
   */
  readonly wake?: "poll" | undefined
  /**
   * Time between two reads while nothing happens, default 1 s (250 ms when polling). Each read is also
   * the heartbeat of the session.
   */
  readonly idleInterval?: Duration.Input | undefined
  /**
   * Time between two reads while commits send no wake, default 5 ms: for 21 ms after a wake that says so,
   * which is for more than 5 commits at once, or more than 200 a second. Otherwise each commit
   * wakes the reader, which reads at once. While a silent commit may still become visible, it reads at
   * intervals that double from this time to `idleInterval`. When polling, it is the time after a read with
   * a message.
   */
  readonly busyInterval?: Duration.Input | undefined
  /**
   * Time that PostgreSQL has to answer a read, default 2 s; ten times that for the first read of a session,
   * and for each further page of messages. At the limit the reader closes the session and opens a new one.
   */
  readonly heartbeatTimeout?: Duration.Input | undefined
  /**
   * When to reconnect, default `Backoff.link`: at once after 30 s up, then full jitter, 100 ms doubling
   * to 10 s, for ever.
   */
  readonly backoff?: Backoff.Policy | undefined
  /**
   * How long PostgreSQL must reject the reader before the layer fails, default 10 s. Until the reader was
   * up once, a wrong password, database or right, or rejected TLS, fails the layer with `DatabaseRefused`
   * when three connections in a row were rejected for the same reason over this time.
   */
  readonly startPatience?: Duration.Input | undefined
  /** The most messages of a page, default 1,000. A page is read and delivered in one step. */
  readonly maxPageMessages?: number | undefined
  /** The size at which a page ends, default 1 MiB (1,048,576 bytes); the message that crosses it is included. */
  readonly maxPageBytes?: number | undefined
  /**
   * The most batches (of at most 64 KiB or one event) that wait for a slow consumer of `batches`, default
   * 64. Beyond it the reader drops them, and reads them again from the consumer's cursor when the
   * consumer gets there.
   */
  readonly maxBacklog?: number | undefined
  /**
   * How often every follower receives a newer position, so that the cursor of a quiet channel does not
   * expire; default 1 hour, and a quarter of the retention where that is less. Sockets receive it too.
   */
  readonly positionInterval?: Duration.Input | undefined
  /**
   * Events of a channel that this reader keeps in memory after it delivered them, default 256, so that a
   * session that reconnects soon is not replayed from the table. An older cursor is read from the table.
   */
  readonly maxMemoryEvents?: number | undefined
  /**
   * How long this reader keeps delivered events in memory, default 2 minutes. After a crash of PostgreSQL
   * the reader checks whether the events in its memory still exist, and sends a gap when they do not. It
   * cannot check older events.
   */
  readonly maxMemoryAge?: Duration.Input | undefined
  /**
   * The memory of this reader for all its channels together, default 64 MiB (67,108,864 bytes). It is an
   * estimate of heap use: 128 bytes for each event, 256 for each batch, and their texts (one byte for
   * each UTF-16 unit). At the limit the channels that hold most drop their oldest events first.
   */
  readonly maxMemoryBytes?: number | undefined
  /**
   * The most events that are replayed to a socket, default 10,000. With more to replay the socket
   * receives `reset`, or `gap slow` when it was too slow.
   */
  readonly maxReplayEvents?: number | undefined
  /** The most payload that is replayed to a socket, default 8 MiB (8,388,608 bytes of UTF-8). */
  readonly maxReplayBytes?: number | undefined
  /**
   * How many replays this node reads at once, default 8. Requests for the same replay share it. The
   * others wait, at most as long as `limits.sourceTimeout` of the server, and are then answered
   * `server/overloaded`.
   */
  readonly maxReplays?: number | undefined
  /**
   * How many replays wait for their turn on this node, default 1,000. One more is answered
   * `server/overloaded` with `retryAfter`, and fails with `ReplaysOverloaded` in the process.
   */
  readonly maxReplayQueue?: number | undefined
  /**
   * The payload that all replays of this node keep until it is sent, default 64 MiB (67,108,864 bytes of
   * UTF-8). While a replay is read and its size is unknown, it counts as `maxReplayBytes`. A replay that
   * does not fit waits for its turn.
   */
  readonly maxReplayMemory?: number | undefined
  /**
   * Whether the reader delivers only what PostgreSQL has flushed to disk, default `false`. A commit with
   * `synchronous_commit = off` is visible up to 0.6 s before it is flushed, and a crash within that time
   * undoes delivered events. With `true` a crash on one machine undoes none, and such commits are
   * delivered up to 0.6 s later. A standby that was behind when it was promoted may still undo some.
   */
  readonly flushed?: boolean | undefined
  /** Whether this node removes old messages, default `true`. At least one node must. */
  readonly upkeep?: boolean | undefined
}

/** The largest number of rows that PostgreSQL accepts, less the one beyond the page. */
const mostRows = 2_147_483_646

/** Those of the options of `OutboxReader.layer`. */
interface Given extends GivenRing {
  readonly maxPageMessages?: number | undefined
  readonly maxPageBytes?: number | undefined
  readonly maxReplayEvents?: number | undefined
  readonly maxReplayBytes?: number | undefined
  readonly maxBacklog?: number | undefined
  readonly positionInterval?: Duration.Input | undefined
}

interface GivenTimes {
  readonly heartbeatTimeout?: Duration.Input | undefined
  readonly busyInterval?: Duration.Input | undefined
  readonly idleInterval?: Duration.Input | undefined
}

interface GivenTogether {
  readonly maxReplays?: number | undefined
  readonly maxReplayQueue?: number | undefined
  readonly maxReplayMemory?: number | undefined
}

/** The settings of both readers. Throws `InvalidOption`. */
export const shared = (
  options: Given
): {
  readonly limits: PageLimits
  /** The largest replay of a socket. */
  readonly bounds: Bounds
  /** The most batches in a slow consumer's backlog. */
  readonly backlog: number
  /** Milliseconds between two positions for every follower. */
  readonly positionInterval: number
  /** The bounds of the rings. */
  readonly recent: RingLimits
} => ({
  limits: {
    messages: count("maxPageMessages", options.maxPageMessages ?? Defaults.maxPageMessages, {
      most: mostRows,
      unlimited: false
    }),
    bytes: count("maxPageBytes", options.maxPageBytes ?? Defaults.maxPageBytes, {
      unlimited: false
    })
  },
  bounds: {
    events: count("maxReplayEvents", options.maxReplayEvents ?? Defaults.maxReplayEvents, {
      least: 0
    }),
    bytes: count("maxReplayBytes", options.maxReplayBytes ?? Defaults.maxReplayBytes, { least: 0 })
  },
  backlog: count("maxBacklog", options.maxBacklog ?? Defaults.maxBacklog),
  positionInterval: millis(
    "positionInterval",
    options.positionInterval ?? Defaults.positionInterval,
    {
      endless: true
    }
  ),
  recent: ringLimits(options, Defaults)
})

/** How often a reader looks, and how long it waits for an answer. Throws `InvalidOption`. */
export const times = (options: GivenTimes) => {
  const beat = Duration.millis(
    millis("heartbeatTimeout", options.heartbeatTimeout ?? Defaults.heartbeatTimeout)
  )
  return {
    beat,
    /** The time for a page. */
    patience: Duration.times(beat, 10),
    times: {
      busy: millis("busyInterval", options.busyInterval ?? Defaults.busyInterval),
      idle:
        options.idleInterval === undefined
          ? undefined
          : millis("idleInterval", options.idleInterval)
    }
  }
}

/** The limits of all replays of a node together. Throws `InvalidOption`. */
export const together = (options: GivenTogether): ReplayLimits => ({
  atOnce: count("maxReplays", options.maxReplays ?? Defaults.maxReplays),
  queue: count("maxReplayQueue", options.maxReplayQueue ?? Defaults.maxReplayQueue, { least: 0 }),
  // Not `Infinity`: the admission subtracts what is kept from it.
  bytes: count("maxReplayMemory", options.maxReplayMemory ?? Defaults.maxReplayMemory, {
    unlimited: false
  })
})
