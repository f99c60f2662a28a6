/** Errors that more than one module of the server raises. */
import * as Schema from "effect/Schema"

/**
 * Opening a channel would exceed the limit `maxChannels` of this node.
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
 * A channel has subscribers with as many different filters as the limit `maxFilters` of this node says.
 *
 * @category errors
 * @since 0.1.0
 */
export class TooManyFilters extends Schema.TaggedError<TooManyFilters>()("TooManyFilters", {
  /** The channel's name. */
  channel: Schema.String,
  /** The most different filters of a channel at once. */
  limit: Schema.Int
}) {
  override get message(): string {
    return `Channel "${this.channel}" has ${this.limit} different filters on this node, which is its limit. Raise maxFilters, or route the table with by.`
  }
}

/**
 * A channel was opened with a filter that the node cannot apply.
 *
 * @category errors
 * @since 0.1.0
 */
export class CannotFilter extends Schema.TaggedError<CannotFilter>()("CannotFilter", {
  /** The channel's name. */
  channel: Schema.String,
  /** Why not. */
  reason: Schema.String
}) {
  override get message(): string {
    return `Channel "${this.channel}" cannot be filtered: ${this.reason}.`
  }
}

/**
 * A durable channel was used on a node that reads no outbox.
 *
 * @category errors
 * @since 0.1.0
 */
export class NoOutbox extends Schema.TaggedError<NoOutbox>()("NoOutbox", {
  /** The channel's name, or the prefix of its family and `*`. */
  channel: Schema.String
}) {
  override get message(): string {
    return `Channel "${this.channel}" is durable, but this node reads no outbox. Provide OutboxReader.layer() to Realtime.layer(): beneath it, not merged beside it. The class of ./node reads the outbox when one of its channels is durable.`
  }
}

/**
 * A live channel was used on a node that has no notification source.
 *
 * @category errors
 * @since 0.1.0
 */
export class NoSource extends Schema.TaggedError<NoSource>()("NoSource", {
  /** The channel's name, or the prefix of its family and `*`. */
  channel: Schema.String
}) {
  override get message(): string {
    return `Channel "${this.channel}" is live, but this node listens to nothing (Realtime.layerDurable, layerVolatile, or wake: "poll" of the class). Define it with { delivery: "durable" }, or give the node a link: PgNotificationSource.layer(), or the class a listenUrl.`
  }
}

/**
 * The operation needs a durable channel, and this channel is not: the database keeps no events to resume
 * from.
 *
 * @category errors
 * @since 0.1.0
 */
export class NotDurable extends Schema.TaggedError<NotDurable>()("NotDurable", {
  /** The channel's name. */
  channel: Schema.String
}) {
  override get message(): string {
    return `Channel "${this.channel}" is not durable and keeps no events, so it has no named consumers. Define it with { delivery: "durable" }, or follow it with Realtime.events.`
  }
}

/** Why a channel gives no page of history. */
const noHistory = {
  volatile: "it is volatile, and nothing keeps its events. Define it as durable, or live",
  before:
    "`before` is not the id of one of its events. Pass the id of the oldest event that you have",
  reader: "the reader of this node cannot read backwards"
} as const

/**
 * A channel gives no page of history.
 *
 * @category errors
 * @since 0.1.0
 */
export class NoHistory extends Schema.TaggedError<NoHistory>()("NoHistory", {
  /** The channel's name. */
  channel: Schema.String,
  /** `volatile`: nothing keeps its events. `before`: no id of an event. `reader`: it cannot read backwards. */
  reason: Schema.Literals(["volatile", "before", "reader"])
}) {
  override get message(): string {
    return `Channel "${this.channel}" gives no history: ${noHistory[this.reason]}.`
  }
}

/**
 * A presence channel was used like one with events.
 *
 * @category errors
 * @since 0.1.0
 */
export class NoEvents extends Schema.TaggedError<NoEvents>()("NoEvents", {
  /** The channel's name. */
  channel: Schema.String
}) {
  override get message(): string {
    return `Channel "${this.channel}" is a presence channel: it has members and no events. Use presence of the client, of Realtime or of the hooks.`
  }
}
