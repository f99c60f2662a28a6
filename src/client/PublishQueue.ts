/**
 * Keeps what is to be published until the server has answered: first in, first out, bounded by
 * count, by bytes and by age.
 *
 * In: messages that are JSON text already. Out: the oldest that is not on its way, then its outcome.
 * It knows nothing of sockets. A message keeps its place until it is settled, so that what was on its
 * way when the connection went is sent again, in order and under the same key.
 *
 * @since 0.1.0
 */
import * as Defaults from "../internal/defaults.ts"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type { PayloadTooLarge } from "../RealtimeError.ts"
import type { ConnectionStopped, Refused } from "./ClientError.ts"
import * as Time from "./internal/time.ts"

/**
 * The queue holds all that it may.
 *
 * @category errors
 * @since 0.1.0
 */
export class QueueFull extends Data.TaggedError("QueueFull")<{
  readonly channel: string
  /** What ran out. */
  readonly unit: "messages" | "bytes"
  readonly limit: number
}> {
  override get message(): string {
    return `A publish on channel "${this.channel}" was not queued: at most ${this.limit} ${this.unit} wait. Try again later.`
  }
}

/**
 * A message was not answered within the time it may wait, however often it was sent.
 *
 * @category errors
 * @since 0.1.0
 */
export class Expired extends Data.TaggedError("Expired")<{
  readonly channel: string
  /** The longest that a message waits, in milliseconds. */
  readonly millis: number
  /** Whether it was sent at least once: then it may have happened. Otherwise it never happens. */
  readonly sent: boolean
  /** The last rejection of the server that was for now, such as `rate/limited` or `source/down`. */
  readonly refused?: Refused | undefined
}> {
  override get message(): string {
    const said = this.refused === undefined ? "" : ` The server said last: ${this.refused.message}`
    return `A publish on channel "${this.channel}" was not answered within ${this.millis} ms. ${this.sent ? "It may have happened: read the state before you send again." : "It was never sent."}${said}`
  }
}

/**
 * One message, ready to be framed.
 *
 * @category models
 * @since 0.1.0
 */
export interface Message {
  readonly channel: string
  /** Made once; the server gives messages with the same key one effect. 1-64 characters. */
  readonly key: string
  /** The payload as JSON text. */
  readonly json: string
  /** Size of `json` in bytes of UTF-8. */
  readonly bytes: number
  /** The trace context of the publish, as W3C `traceparent`. */
  readonly trace?: string | undefined
}

/**
 * Why a message that was taken in was not published.
 *
 * @category errors
 * @since 0.1.0
 */
export type Failure = Expired | ConnectionStopped | PayloadTooLarge | Refused

/**
 * A message in the queue.
 *
 * @category models
 * @since 0.1.0
 */
export interface Queued extends Message {
  /** Ends it and frees its place; later calls do nothing. */
  readonly settle: (exit: Exit.Exit<void, Failure>) => void
  /** Leaves it in its place, to be given out again. The server has rejected it for now. */
  readonly retry: (refused?: Refused) => void
  /** Ends it with `Expired`. */
  readonly expire: () => void
  /** Takes it back, unless it was sent. */
  readonly cancel: () => void
  /** How long it may still wait, in milliseconds. */
  readonly left: () => number
}

/**
 * What is in the queue, on its way included.
 *
 * @category models
 * @since 0.1.0
 */
export interface Size {
  readonly messages: number
  /** Of JSON in UTF-8. */
  readonly bytes: number
}

/**
 * Options of `PublishQueue.layer`.
 *
 * @category options
 * @since 0.1.0
 */
export interface Options {
  /** Messages at once, default 1,000. One more fails with `QueueFull`. */
  readonly maxMessages?: number | undefined
  /** JSON at once, in bytes of UTF-8, default 1 MiB (1,048,576). What exceeds it fails with `QueueFull`. */
  readonly maxBytes?: number | undefined
  /**
   * How long one message may wait for its answer, over all connections, default 60 s. Then it fails with
   * `Expired`. At most 10 minutes, because a server remembers the keys of live channels for that long.
   */
  readonly maxAge?: Duration.Input | undefined
}

/** How long a server remembers the keys of live channels at least, in milliseconds. */
const maxMaxAge = 600_000

/**
 * The queue of one client. All of it is synchronous.
 *
 * @category services
 * @since 0.1.0
 */
export class PublishQueue extends Context.Service<
  PublishQueue,
  {
    /** Takes a message in at the end. Calls `onSettled` once, with the outcome. */
    readonly add: (
      message: Message,
      onSettled: (exit: Exit.Exit<void, Failure>) => void
    ) => Exit.Exit<Queued, QueueFull>
    /** Gives out the oldest message that is not on its way. */
    readonly next: () => Queued | undefined
    /** The connection is gone: all that is on its way is given out again, in order. */
    readonly rewind: () => void
    /** Ends everything that is queued. */
    readonly failAll: (error: Failure) => void
    /** Sets the one listener that is called after a message left the queue, for whatever reason. */
    readonly onSettled: (listener: () => void) => void
    /** What is queued now, on its way included. */
    readonly size: () => Size
  }
>()("effect-realtime/client/PublishQueue") {}

/**
 * Makes a queue in memory, whose timers end with the scope.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (
  options?: Options
): Effect.Effect<PublishQueue["Service"], never, Scope.Scope> =>
  Effect.map(Time.make, ({ after, now }) => {
    const maxMessages = options?.maxMessages ?? Defaults.queueMaxMessages
    const maxBytes = options?.maxBytes ?? Defaults.queueMaxBytes
    const millis = Math.min(Time.millis(options?.maxAge ?? Defaults.queueMaxAge), maxMaxAge)

    interface Item extends Queued {
      readonly expiresAt: number
      /** Given out and not yet settled. */
      taken: boolean
      /** Given out at least once. */
      sent: boolean
      refused: Refused | undefined
    }
    // In order of arrival. Every message may wait equally long, so the first is the first to expire.
    const items = new Set<Item>()
    let bytes = 0
    let settled: (() => void) | undefined

    /** By absolute times, so that nothing old is sent after a long sleep. */
    const expire = () => {
      for (const item of items) {
        if (item.expiresAt > now()) return
        item.expire()
      }
    }

    return PublishQueue.of({
      add: (message, onSettled) => {
        expire()
        const { channel } = message
        const full = (unit: "messages" | "bytes", limit: number) =>
          Exit.fail(new QueueFull({ channel, unit, limit }))
        if (items.size >= maxMessages) return full("messages", maxMessages)
        if (bytes + message.bytes > maxBytes) return full("bytes", maxBytes)
        // A timer has waited that long, whatever the clock says then.
        const cancel = after(millis, () => item.expire())
        const item: Item = {
          ...message,
          expiresAt: now() + millis,
          taken: false,
          sent: false,
          refused: undefined,
          expire: () => {
            const { refused, sent } = item
            item.settle(Exit.fail(new Expired({ channel, millis, sent, refused })))
          },
          settle: (outcome) => {
            if (!items.delete(item)) return
            bytes -= message.bytes
            cancel()
            onSettled(outcome)
            settled?.()
          },
          retry: (refused) => {
            item.taken = false
            item.refused = refused
          },
          cancel: () => {
            if (!item.sent) item.settle(Exit.void)
          },
          left: () => item.expiresAt - now()
        }
        items.add(item)
        bytes += message.bytes
        return Exit.succeed(item)
      },
      next: () => {
        expire()
        for (const item of items) {
          if (item.taken) continue
          item.taken = item.sent = true
          return item
        }
        return undefined
      },
      rewind: () => {
        for (const item of items) item.taken = false
      },
      failAll: (error) => {
        // What is added meanwhile stays.
        for (const item of Array.from(items)) item.settle(Exit.fail(error))
      },
      onSettled: (listener) => {
        settled = listener
      },
      size: () => ({ messages: items.size, bytes })
    })
  })

/**
 * Provides a queue in memory.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options?: Options): Layer.Layer<PublishQueue> =>
  Layer.effect(PublishQueue, make(options))
