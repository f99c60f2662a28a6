/**
 * What a subscriber can be told: an event, or that events may be missing.
 *
 * A gap is a value and never a log line: whoever consumes a channel decides what to re-read.
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
  /** Unique within the channel, the same after a resume. */
  readonly id: string
  /** When the node received it (live), or when the database stored it (durable). */
  readonly at: Date
  readonly payload: A
  /** The position after this event; `undefined` for an event inside a larger batch. */
  readonly cursor: string | undefined
  /** The transaction that wrote it; durable channels only. */
  readonly tx: string | undefined
}

/**
 * Every reason for which events may be missing before this point.
 *
 * - `source`: the connection that listens was lost and is back; whatever commits from now on is delivered.
 * - `slow`: this subscriber did not keep up and its backlog was dropped.
 * - `retention`: the position asked for is older than what is kept.
 * - `invalid`: a message did not match the channel's schema and was dropped, or a trigger could not tell
 *   what it saw.
 * - `truncate`: all rows of the table are gone.
 * - `rights`: what this subscriber may see has changed.
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
 * A message that did not match its channel's schema, without anything that it said: fit to be logged,
 * or kept in a table until somebody looks at it.
 *
 * @category models
 * @since 0.1.0
 */
export interface InvalidMessage {
  /** Of the event that it would have been. On a durable channel it is the row's id in the outbox. */
  readonly id: string
  /**
   * Where, as in `["data"]["total"]`; empty for the whole payload. Names that the schema does not name
   * itself, such as those of a record or inside of jsonb, are `[*]`.
   */
  readonly path: string
  /** What the schema asks for there, as in `number`. */
  readonly expected: string
}

/**
 * Events of the channel may be missing before this point: re-read the state, then go on.
 *
 * It stands in a stream of events as a value, and it is the error of a stream that cannot say so otherwise.
 *
 * @category models
 * @since 0.1.0
 */
export class Gap extends Data.TaggedError("Gap")<{
  readonly channel: string
  /** A client hands out what a newer server says as it came: take what you do not know as `source`. */
  readonly reason: GapReason | (string & {})
  /**
   * The position after the gap: what follows it is complete, and who resumes here is not told it again.
   * Where a client's own Schema refuses an event inside a batch it is the position before that batch.
   */
  readonly cursor: string
  /** For `invalid`, on the server: which message, and what was wrong with it. */
  readonly invalid?: InvalidMessage | undefined
}> {
  override get message(): string {
    return `Events of channel "${this.channel}" may be missing (${this.reason}). Re-read the state, then go on from here.`
  }
}

/**
 * @category models
 * @since 0.1.0
 */
export type RealtimeEvent<A> = Event<A> | Gap

/**
 * Runs one function or the other.
 *
 * @category folding
 * @since 0.1.0
 */
export const match =
  <A, B, C>(cases: { readonly onEvent: (event: Event<A>) => B; readonly onGap: (gap: Gap) => C }) =>
  (event: RealtimeEvent<A>): B | C =>
    event._tag === "Event" ? cases.onEvent(event) : cases.onGap(event)

/**
 * A state, and the position of exactly that state: what came after it is missing in neither, and what
 * is in it comes again in neither.
 *
 * It is plain JSON, so an HTTP API may answer it as it is, and `useChannel({ load })` take it as it came.
 *
 * @category models
 * @since 0.1.0
 */
export interface Snapshot<out A> {
  readonly _tag: "Snapshot"
  readonly value: A
  /** For `events({ from })`, or to tell which events the state already holds. */
  readonly cursor: string
}
