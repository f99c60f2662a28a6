/**
 * The errors that both sides of the wire can meet: names, payloads and frames that do not fit.
 *
 * They are plain tagged errors without Schema, so that a browser bundle stays small. Each has data, and a
 * message that says what happened, the limit with its unit, and the cure. Errors of one side are in its
 * modules: `NotificationSource`, `PublishQueue`, `RealtimeClient`.
 *
 * @since 0.1.0
 */
import * as Data from "effect/Data"

/**
 * A channel name that PostgreSQL or the wire would change or reject.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidChannelName extends Data.TaggedError("InvalidChannelName")<{
  /** The name as it was given. */
  readonly channel: string
  /** What is wrong with it. */
  readonly reason: string
}> {
  override get message(): string {
    return `The channel name ${JSON.stringify(this.channel.slice(0, 80))} ${this.reason}. A name is 1-63 bytes of A-Z a-z 0-9 _ . : - and not "realtime".`
  }
}

/**
 * A payload that does not match the Schema of its channel, in either direction.
 *
 * `issue` says where and why. It may quote the payload, so write it to logs and do not show it to users.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidPayload extends Data.TaggedError("InvalidPayload")<{
  readonly channel: string
  /** `decode`: the JSON of a received payload. `encode`: a payload to send. */
  readonly direction: "decode" | "encode"
  readonly issue: string
}> {
  override get message(): string {
    return `Cannot ${this.direction} a payload of channel "${this.channel}": ${this.issue}`
  }
}

/**
 * A payload that is larger than its channel can carry.
 *
 * A live channel uses NOTIFY, which takes at most 7,999 bytes of UTF-8. A durable channel takes 8 MiB, a
 * volatile one 512 KiB.
 *
 * @category errors
 * @since 0.1.0
 */
export class PayloadTooLarge extends Data.TaggedError("PayloadTooLarge")<{
  readonly channel: string
  /** Size of the JSON text in bytes of UTF-8. */
  readonly bytes: number
  /** The most that fits, in bytes of UTF-8. */
  readonly limit: number
}> {
  override get message(): string {
    return `A payload for channel "${this.channel}" is ${this.bytes} bytes of JSON, at most ${this.limit} fit. Send an id and let the reader fetch the rest.`
  }
}

/**
 * A filter that its channel does not have: a column that the definition does not list, or a value that the
 * column's Schema cannot encode.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidWhere
  extends /* @__PURE__ */ Data.TaggedError("InvalidWhere")<{
    readonly channel: string
    readonly column: string
    /** May quote the value, so write it to logs and do not show it to users. */
    readonly issue: string
  }>
{
  override get message(): string {
    return `The filter of channel "${this.channel}" has no rows: its column ${JSON.stringify(this.column)} ${this.issue}. List the columns in \`filter\` of the definition, and filter by values of their Schemas.`
  }
}

/**
 * A definition of a table that contradicts itself.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidTable
  extends /* @__PURE__ */ Data.TaggedError("InvalidTable")<{
    readonly table: string
    /** What is wrong with it. */
    readonly reason: string
  }>
{
  override get message(): string {
    return `The definition of table "${this.table}" ${this.reason}.`
  }
}
