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
    return `Channel "${this.channel}" is durable, but this node reads no outbox. Provide OutboxReader.layer() to Realtime.layer(): beneath it, not merged beside it. The class of ./node reads the outbox when one of its channels is durable.`
  }
}

/**
 * A live channel is used on a node that listens to nothing.
 *
 * @category errors
 * @since 0.1.0
 */
export class NoSource extends Schema.TaggedError<NoSource>()("NoSource", {
  channel: Schema.String
}) {
  override get message(): string {
    return `Channel "${this.channel}" is live, but this node listens to nothing (Realtime.layerDurable, or wake: "poll" of the class). Define it with { delivery: "durable" }, or give the node a link: PgNotificationSource.layer(), or the class a listenUrl.`
  }
}

/**
 * What is asked for needs a durable channel, and this one is live: it keeps nothing to go on from.
 *
 * @category errors
 * @since 0.1.0
 */
export class NotDurable extends Schema.TaggedError<NotDurable>()("NotDurable", {
  channel: Schema.String
}) {
  override get message(): string {
    return `Channel "${this.channel}" is live and keeps no events, so nobody can consume it under a name. Define it with { delivery: "durable" }, or follow it with Realtime.events.`
  }
}
