/** The options of `Realtime`, and their values in force. */
import * as Duration from "effect/Duration"
import type * as Channel from "../../../Channel.ts"
import { realtime as Defaults } from "../../../internal/defaults.ts"
import type { RealtimeEvent } from "../../../RealtimeEvent.ts"
import type { OutboxReader } from "../../OutboxReader.ts"
import type { TopicTaken } from "../../NodeBus.ts"
import { count, type InvalidOption, millis } from "../options.ts"
import { ringLimits } from "../ringLimits.ts"
import type { HubOptions } from "./hub.ts"

/**
 * Why a node has no hub.
 *
 * @category errors
 * @since 0.1.0
 */
export type StartError = InvalidOption | TopicTaken

/**
 * Options of `layer`, `layerDurable` and `make`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /**
   * How long a channel stays open after its last subscriber left, default 2 minutes. A subscriber that
   * returns within it resumes without loss.
   */
  readonly linger?: Duration.Input | undefined
  /** The most channels open at once on this node, default 10,000. One more fails with `TooManyChannels`. */
  readonly maxChannels?: number | undefined
  /**
   * The most different filters that the subscribers of one channel have at once on this node, default
   * 1,000. One more fails with `TooManyFilters`.
   */
  readonly maxFilters?: number | undefined
  /**
   * The most rows of a state, default 10,000. A larger state fails with `StateTooLarge`, and is never
   * sent in part. At 80 % the node logs a warning, once for each table.
   */
  readonly maxStateRows?: number | undefined
  /**
   * The most bytes of a state, default 8 MiB (8,388,608 bytes of UTF-8); as `maxStateRows`. All states of
   * the node that are in use have at most 8 times as many; others wait.
   */
  readonly maxStateBytes?: number | undefined
  /** Events that a live channel keeps in memory, default 256. Older positions are answered `reset`. */
  readonly maxMemoryEvents?: number | undefined
  /** How long a live channel keeps an event in memory, default 2 minutes. */
  readonly maxMemoryAge?: Duration.Input | undefined
  /**
   * The memory of all live channels of the node together, default 64 MiB (67,108,864 bytes). It is an
   * estimate of heap use: 128 bytes for each event, and its text (one byte for each UTF-16 unit). At the
   * limit the channels that hold most drop their oldest events first.
   */
  readonly maxMemoryBytes?: number | undefined
  /**
   * The shortest time between two deliveries of live or volatile events, default 0: each turn of the event
   * loop delivers what arrived in it, and a node whose deliveries take long pauses up to 20 ms in between.
   * With 5 ms a busy channel costs much less, and its events arrive up to 5 ms later. Events that arrive
   * together travel in one frame. More than 4,096 notifications are delivered without waiting.
   */
  readonly batchWindow?: Duration.Input | undefined
  /**
   * Whether this node sends its own subscribers of `system_notifications` an event when its source is
   * lost (`warning`) and back (`info`), default `true`.
   */
  readonly announceSource?: boolean | undefined
  /**
   * How long a member of a presence channel stays after its socket closed, default 10 s. One that returns
   * within it never left. With 0 it leaves at once.
   */
  readonly presenceGrace?: Duration.Input | undefined
  /**
   * The most members of a presence channel that subscribers receive by name, default 1,000. Beyond it they
   * receive how many there are, at most once a second, until fewer than nine tenths are left. A member
   * receives its own state always.
   */
  readonly maxMembers?: number | undefined
  /**
   * The most changes of the state of a member that others receive in a second, default 5. Of more changes
   * they receive the newest.
   */
  readonly memberRate?: number | undefined
}

/**
 * Options of `publish`.
 *
 * @category models
 * @since 0.1.0
 */
export interface PublishOptions {
  /**
   * Makes a retry safe on a durable channel: the same key with the same payload is published once, also
   * across a crash. With another payload it fails. 1-500 bytes of UTF-8 without NUL. A live channel
   * ignores it. On a volatile channel without `latestBy` it names the publisher, whose newest event counts.
   */
  readonly key?: string | undefined
}

/**
 * Options of `events` and `batches`.
 *
 * @category models
 * @since 0.1.0
 */
export interface EventsOptions {
  /**
   * The cursor to resume from: the events after it are replayed first. When the server cannot resume from
   * it, the first item is a gap. `oldest` on a durable channel: before everything that is kept. Default:
   * from now on.
   */
  readonly from?: string | undefined
}

/** The options with their defaults. Throws `InvalidOption`. */
export const resolved = (options: Options): HubOptions => {
  const finite = { unlimited: false }
  const any = { least: 0, endless: true }
  const least = { least: 0 }
  return {
    linger: Duration.millis(millis("linger", options.linger ?? Defaults.linger, any)),
    maxChannels: count("maxChannels", options.maxChannels ?? Defaults.maxChannels),
    maxFilters: count("maxFilters", options.maxFilters ?? Defaults.maxFilters),
    state: {
      rows: count("maxStateRows", options.maxStateRows ?? Defaults.maxStateRows, finite),
      bytes: count("maxStateBytes", options.maxStateBytes ?? Defaults.maxStateBytes, finite)
    },
    announceSource: options.announceSource ?? Defaults.announceSource,
    batchWindow: millis("batchWindow", options.batchWindow ?? Defaults.batchWindow, least),
    presence: {
      grace: millis("presenceGrace", options.presenceGrace ?? Defaults.presenceGrace, least),
      named: count("maxMembers", options.maxMembers ?? Defaults.maxMembers),
      rate: count("memberRate", options.memberRate ?? Defaults.memberRate)
    },
    ring: ringLimits(options, Defaults)
  }
}

/**
 * Events that arrived together, and the position after them. A batch without events is only a position.
 *
 * @category models
 * @since 0.1.0
 */
export interface EventBatch<out A> {
  /** The position after the events. Empty on a volatile channel, which has no positions. */
  readonly cursor: string
  /** Events and gaps, in order. */
  readonly events: ReadonlyArray<RealtimeEvent<A>>
}

/**
 * The services beside `Realtime` that a program needs for channels of a delivery: a durable channel
 * requires the outbox. When the compiler does not know the delivery, the type requires nothing, and a
 * node without an outbox fails with `NoOutbox`.
 *
 * @category models
 * @since 0.1.0
 */
export type Needs<Kind extends Channel.Delivery> = [Kind] extends ["durable"] ? OutboxReader : never

/**
 * The services that the channels of a definition need; see `Needs`.
 *
 * @category models
 * @since 0.1.0
 */
export type NeedsOf<D extends Channel.Definition> = D extends {
  readonly delivery: infer Kind extends Channel.Delivery
}
  ? Needs<Kind>
  : never
