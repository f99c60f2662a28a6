/**
 * The state of a table: its rows as of one position. What a reader is asked for, what it answers, and why
 * it cannot.
 */
import * as Schema from "effect/Schema"
import type * as Channel from "../../../Channel.ts"
import { InvalidChannelName } from "../../../RealtimeError.ts"
import type { Filter } from "../filter.ts"
import type { OutboxFault, ReplayError } from "./outboxErrors.ts"
import type { ReplaysOverloaded } from "./replayAdmission.ts"

export interface RowsRequest {
  /** The channel of the table, or of one of its routes. */
  readonly channel: string
  readonly table: Channel.Table
  readonly filter: Filter | undefined
  readonly limits: StateLimits
}

export interface StateLimits {
  readonly rows: number
  /** Bytes of the rows as JSON, in UTF-8. */
  readonly bytes: number
}

export interface RowsAt {
  /** The events behind these rows follow from here. */
  readonly cursor: string
  /** The rows as JSON, as the events of the table have them in `data`, in the order of the primary key. */
  readonly rows: ReadonlyArray<string>
}

/**
 * A state has more rows or bytes than a socket takes.
 *
 * @category errors
 * @since 0.1.0
 */
export class StateTooLarge extends Schema.TaggedError<StateTooLarge>()("StateTooLarge", {
  /** The channel whose state it is. */
  channel: Schema.String,
  /** The limit that was crossed. */
  limit: Schema.Literals(["maxStateRows", "maxStateBytes"]),
  /** Its value. */
  most: Schema.Number,
  /** The rows or bytes that the state has, at least. */
  found: Schema.Number
}) {
  override get message(): string {
    const unit = this.limit === "maxStateRows" ? "rows" : "bytes"
    return `The state of channel "${this.channel}" has at least ${this.found} ${unit}, and ${this.limit} is ${this.most}. Filter it, or raise the limit.`
  }
}

/**
 * A filter has a value that a column cannot have, or that the database writes in another way.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidFilter extends Schema.TaggedError<InvalidFilter>()("InvalidFilter", {
  /** The channel that was asked for. */
  channel: Schema.String,
  /** The column of the value. */
  column: Schema.String,
  /** What is wrong, without the value. */
  issue: Schema.String
}) {
  override get message(): string {
    return `The filter of channel "${this.channel}" does not fit: ${this.issue}.`
  }
}

/** No row has this route, because its column has no such text. */
export const noRoute = (channel: string, column: string): InvalidChannelName =>
  new InvalidChannelName({
    channel,
    reason: `has a value that column "${column}" cannot have, or that PostgreSQL writes in another way`
  })

/**
 * A channel has no state that the node can read.
 *
 * @category errors
 * @since 0.1.0
 */
export class NoState extends Schema.TaggedError<NoState>()("NoState", {
  /** The channel that was asked for. */
  channel: Schema.String,
  /** `definition`: it is no durable channel of a table. `shared`: several tables are watched for it. */
  reason: Schema.Literals(["definition", "shared"])
}) {
  override get message(): string {
    return `Channel "${this.channel}" has no state that this node can read${
      this.reason === "shared"
        ? ", because several tables are watched for it. Watch each table for a channel of its own."
        : ". Define it with Channel.table."
    }`
  }
}

/** Why a state was not read. */
export type StateError =
  | StateTooLarge
  | NoState
  | InvalidFilter
  | InvalidChannelName
  | OutboxFault
  | ReplayError
  | ReplaysOverloaded
