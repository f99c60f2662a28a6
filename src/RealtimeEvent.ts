/**
 * What a subscriber receives: an event, or a gap where events may be missing.
 *
 * A gap is a value, so that the subscriber decides what to re-read.
 *
 * @since 0.1.0
 */
import * as Data from "effect/Data"

/**
 * One decoded payload with its identity.
 *
 * @category models
 * @since 0.1.0
 */
export interface Event<out A> {
  readonly _tag: "Event"
  /** The name of the channel, e.g. `table_updates_orders`. */
  readonly channel: string
  /** Unique within the channel. An event that is replayed keeps its id. */
  readonly id: string
  /** When the node received it (live), or when the database stored it (durable). */
  readonly at: Date
  readonly payload: A
  /** The position after this event; `undefined` for an event inside a larger batch. */
  readonly cursor: string | undefined
  /** The transaction that wrote it. Durable channels only. */
  readonly tx: string | undefined
}

/**
 * Every reason for which events may be missing before this point.
 *
 * - `source`: the server lost its connection to the database. It has reconnected and delivers what
 *   commits from now on.
 * - `slow`: this subscriber did not keep up, and the server dropped its backlog.
 * - `retention`: the requested position is older than what the server keeps.
 * - `invalid`: the server dropped a message that did not match the channel's schema, or a trigger could
 *   not describe a change.
 * - `truncate`: all rows of the table were removed.
 * - `rights`: the subscriber's rights have changed.
 *
 * @category models
 * @since 0.1.0
 */
export const gapReasons = ["source", "slow", "retention", "invalid", "truncate", "rights"] as const

/**
 * One of `gapReasons`.
 *
 * @category models
 * @since 0.1.0
 */
export type GapReason = (typeof gapReasons)[number]

/**
 * A message that did not match its channel's schema, without its content: safe to log, and to keep in a
 * table for later inspection.
 *
 * @category models
 * @since 0.1.0
 */
export interface InvalidMessage {
  /** The id that the event would have. On a durable channel it is the id of the row in the outbox. */
  readonly id: string
  /**
   * The place of the fault, as in `["data"]["total"]`; empty for the whole payload. Names that the schema
   * does not contain, such as those of a record or inside of jsonb, are `[*]`.
   */
  readonly path: string
  /** What the schema expects there, as in `number`. */
  readonly expected: string
}

/**
 * A change of a row that did not match its table's Schema, without the row.
 *
 * @category models
 * @since 0.1.0
 */
export interface InvalidChange {
  /** The id that the event would have. */
  readonly id: string
  /** The transaction that wrote it. */
  readonly tx: string
  readonly operation: "INSERT" | "UPDATE" | "DELETE"
  /** The primary key of the row, column by column. */
  readonly key: object
}

/**
 * Events of the channel may be missing before this point: re-read the state, then go on.
 *
 * A gap is a value in a stream of events. It is the error of a stream whose elements cannot hold it.
 *
 * @category models
 * @since 0.1.0
 */
export class Gap extends Data.TaggedError("Gap")<{
  readonly channel: string
  /** A newer server may send a reason that is not in `gapReasons`. Treat it as `source`. */
  readonly reason: GapReason | (string & {})
  /**
   * The position after the gap. What follows it is complete, and a subscriber that resumes here does not
   * receive the gap again. When a client's own Schema rejects an event inside a batch, it is the position
   * before that batch.
   */
  readonly cursor: string
  /** For `invalid`, on the server: the message, and what was wrong with it. */
  readonly invalid?: InvalidMessage | undefined
  /** For `invalid`, on a durable channel of a table: only this change is missing, if it is there. */
  readonly change?: InvalidChange | undefined
}> {
  override get message(): string {
    return `Events of channel "${this.channel}" may be missing (${this.reason}). Re-read the state, then go on from here.`
  }
}

/**
 * What a Stream of a channel gives: an event or a gap.
 *
 * @category models
 * @since 0.1.0
 */
export type RealtimeEvent<A> = Event<A> | Gap

/**
 * Calls the function that matches the value: an event or a gap.
 *
 * @category folding
 * @since 0.1.0
 */
export const match =
  <A, B, C>(cases: { readonly onEvent: (event: Event<A>) => B; readonly onGap: (gap: Gap) => C }) =>
  (event: RealtimeEvent<A>): B | C =>
    event._tag === "Event" ? cases.onEvent(event) : cases.onGap(event)

/**
 * A state and its position. A subscriber that goes on from `cursor` misses no later event, and receives
 * none that `value` contains.
 *
 * It is plain JSON: an HTTP API may send it, and `useChannel({ load })` accepts it as received.
 *
 * @category models
 * @since 0.1.0
 */
export interface Snapshot<out A> {
  readonly _tag: "Snapshot"
  /** The state, as JSON. */
  readonly value: A
  /**
   * For `events({ from })`, and for `Cursor.includes`, which finds the events that the state already
   * contains.
   */
  readonly cursor: string
}

/**
 * Options of `history`, on the server and in clients.
 *
 * @category models
 * @since 0.1.0
 */
export interface HistoryOptions {
  /** The id of an event: the page ends before it. Default: with the newest event. */
  readonly before?: string | undefined
  /**
   * The most events of the page, default 50, at most 1,000. A page also ends with the event that crosses
   * 256 KiB.
   */
  readonly limit?: number | undefined
}

/**
 * A page of the events that a channel had before. The page before it ends before the id of its first event.
 *
 * @category models
 * @since 0.1.0
 */
export interface HistoryPage<out A> {
  /** The oldest first. They have no `cursor`. Empty only where there is none. */
  readonly events: ReadonlyArray<Event<A>>
  /** Whether there are events before these. */
  readonly more: boolean
}
