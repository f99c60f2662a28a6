/** Errors of the server wing that more than one of its modules raises. */
import * as Schema from "effect/Schema"

/**
 * The node listens to as many channels as it may.
 *
 * @category errors
 * @since 0.1.0
 */
export class TooManyChannels extends Schema.TaggedError<TooManyChannels>()("TooManyChannels", {
  /** The most channels open at once. */
  limit: Schema.Int
}) {
  override get message(): string {
    return `This node listens to ${this.limit} channels, which is its limit. Raise maxChannels, or put the parameter into the payload instead of the name.`
  }
}

/**
 * A durable channel is used on a node that reads no outbox.
 *
 * @category errors
 * @since 0.1.0
 */
export class NoOutbox extends Schema.TaggedError<NoOutbox>()("NoOutbox", {
  channel: Schema.String
}) {
  override get message(): string {
    return `Channel "${this.channel}" is durable, but this node reads no outbox. Provide OutboxReader.layer() to Realtime.layer().`
  }
}
