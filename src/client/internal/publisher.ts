/**
 * Moves messages from the queue to the wire and their answers back.
 *
 * It sends while the connection is open, never faster than the server announced, with a bounded number
 * unanswered. It sends again later what the server asks to retry; and in order, under the same key, what
 * was on its way when the link went. It gives up a link that does not answer a publish in time. Each
 * message says how long it still waits, so that the server does nothing of one that has expired here.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { Channel, Delivery } from "../../Channel.ts"
import { toJson } from "../../ChannelBase.ts"
import {
  type InvalidChannelName,
  type InvalidPayload,
  PayloadTooLarge
} from "../../RealtimeError.ts"
import { InvalidKey } from "../ClientError.ts"
import type { Failure, Message, PublishQueue, Queued, QueueFull, Size } from "../PublishQueue.ts"
import * as Cell from "./cell.ts"
import type { Readable } from "../Readable.ts"
import type { Above, Connection } from "./connectionMachine.ts"
import { refusedOf } from "./requests.ts"
import type { Time } from "./time.ts"
import type { Volatile, VolatileOutcome } from "./volatile.ts"

/**
 * Why a publish did not happen. After `Expired` with `sent` it may have.
 *
 * @category errors
 * @since 0.1.0
 */
export type PublishError = Failure | InvalidChannelName | InvalidKey | InvalidPayload | QueueFull

/** Unanswered at once; with those of subscriptions fewer than the 100 that the protocol allows. */
const maxUnanswered = 32

/** What `limits.frameBytes` is taken for before the first welcome, in bytes: the protocol's default. */
const defaultFrameBytes = 65_536

/** When the server says "later" without saying when, in milliseconds. */
const defaultRetryAfter = 1000

/** What the frame adds to the payload and the key at most, in bytes: its names, numbers and a channel. */
const envelopeBytes = 184

const bytesOf = (text: string) => new TextEncoder().encode(text).length

/**
 * Options of `publish`.
 *
 * @category options
 * @since 0.1.0
 */
export interface PublishOptions {
  /**
   * Makes it one effect with every other publish of the same key and payload on this channel by the
   * same identity, also from before the page was loaded again: the server remembers keys of live channels
   * for 10 minutes, those of durable channels as long as their events. 1-64 characters. Default: a random
   * one. A volatile channel has no keys, and ignores it.
   */
  readonly key?: string | undefined
  /**
   * The trace context of the publish as W3C `traceparent`, to which the server links its span. Default:
   * none. A volatile channel ignores it.
   */
  readonly trace?: string | undefined
}

/**
 * What a publish gives: on a volatile channel whether it was `published` or `dropped`, on others nothing.
 *
 * @category models
 * @since 0.1.0
 */
export type Published<Kind extends Delivery> = [Kind] extends ["volatile"] ? VolatileOutcome : void

export interface Publisher extends Above {
  readonly publish: <A, Kind extends Delivery>(
    channel: Channel<A, boolean, string, Kind>,
    payload: A,
    options?: PublishOptions
  ) => Effect.Effect<Published<Kind>, PublishError>
  readonly waiting: Readable<Size>
}

export const make = (
  connection: Connection,
  { after }: Time,
  queue: PublishQueue["Service"],
  ackMillis: number,
  volatile: Volatile
): Publisher => {
  /** The timers of what is unanswered. */
  const unanswered = new Set<() => void>()
  /** The timers of rejections for now: nothing goes out until each is over. */
  const rests = new Set<() => void>()
  /** 0 while there is no connection. */
  let perSecond = 0
  /** How many went out in the last second. */
  let spent = 0
  let frameBytes = defaultFrameBytes

  const tooLarge = ({ bytes, channel, key, trace }: Message) => {
    const limit = frameBytes - envelopeBytes - bytesOf(JSON.stringify({ key, trace }))
    return bytes > limit ? new PayloadTooLarge({ channel, bytes, limit }) : undefined
  }

  const pump = () => {
    if (rests.size > 0 || spent >= perSecond || unanswered.size >= maxUnanswered) return
    const message = queue.next()
    if (message === undefined) return
    const error = tooLarge(message)
    // Whatever is settled pumps again.
    if (error !== undefined) return message.settle(Exit.fail(error))
    spent++
    after(1000, () => {
      spent--
      pump()
    })
    send(message)
    pump()
  }

  const send = (message: Queued) => {
    const { channel, json, key, settle, trace } = message
    const done: Queued["settle"] = (outcome) => {
      unanswered.delete(timer)
      settle(outcome)
      // Settling does nothing when it has expired on its way.
      pump()
    }
    const timer = after(ackMillis, () =>
      connection.giveUp(`The server did not answer a publish within ${ackMillis} ms`)
    )
    unanswered.add(timer)
    const data: unknown = JSON.parse(json)
    const within = Math.ceil(message.left())
    connection.request(
      { type: "publish", channel, within, key, ...(trace && { trace }), data },
      (answer) => {
        timer()
        if (answer.type !== "error") return done(Exit.void)
        if (answer.code === "publish/expired") message.expire()
        const error = connection.refused(channel, answer)
        if (error !== undefined) return done(Exit.fail(error))
        unanswered.delete(timer)
        const { retryAfter } = answer
        message.retry(refusedOf(channel, answer, retryAfter))
        const rest = after(retryAfter ?? defaultRetryAfter, () => {
          rests.delete(rest)
          pump()
        })
        rests.add(rest)
      }
    )
  }

  const waiting = Cell.make<Size>(queue.size())
  const moved = () => {
    connection.look()
    const { bytes, messages } = queue.size()
    const told = waiting.getSnapshot()
    if (bytes !== told.bytes || messages !== told.messages) {
      waiting.set({ messages, bytes })
      connection.measure?.("queue", messages)
    }
    pump()
  }

  queue.onSettled(moved)
  // A queue that outlives the page may hold messages already.
  moved()

  return {
    waiting,
    publish: <A, Kind extends Delivery>(
      channel: Channel<A, boolean, string, Kind>,
      payload: A,
      options?: PublishOptions
    ) =>
      Effect.gen(function* () {
        const isVolatile = channel.delivery === "volatile"
        const fault = channel.fault ?? (isVolatile ? undefined : connection.stopped())
        if (fault !== undefined) return yield* fault
        const json = yield* Effect.fromResult(toJson(channel, payload))
        // 128 random bits. `crypto.randomUUID` exists only on secure pages; this works on all.
        // A volatile publish travels without a key.
        const given = isVolatile ? "-" : options?.key
        const key = given ?? crypto.getRandomValues(new Uint32Array(4)).join("-")
        if (key.length > 64 || !/^[^\0\ud800-\udfff]+$/u.test(key)) {
          return yield* new InvalidKey({ channel: channel.name, key })
        }
        const message = {
          channel: channel.name,
          key,
          json,
          bytes: bytesOf(json),
          trace: options?.trace
        }
        const error = tooLarge(message)
        if (error !== undefined) return yield* error
        if (isVolatile) return yield* volatile.publish(channel, json)
        // In one step, so that any interruption takes it back.
        return yield* Effect.callback<void, PublishError>((resume) => {
          const added = queue.add(message, resume)
          if (added._tag === "Failure") return resume(added)
          moved()
          return Effect.sync(added.value.cancel)
        })
      }) as Effect.Effect<Published<Kind>, PublishError>,
    needed: () => queue.size().messages > 0,
    open: ({ limits }) => {
      perSecond = Math.max(1, limits.publishPerSecond)
      frameBytes = limits.frameBytes
      pump()
    },
    down: () => {
      perSecond = 0
      // What this server said need not hold for the next session.
      for (const timers of [unanswered, rests]) {
        timers.forEach((cancel) => cancel())
        timers.clear()
      }
      queue.rewind()
    },
    end: queue.failAll
  }
}
