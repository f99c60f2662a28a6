/**
 * Moves messages from the queue to the wire and their answers back.
 *
 * It sends while the connection is open, never faster than the server announced, with a bounded number
 * unanswered. What the server asks to retry goes out again later; what was on its way when the link
 * went goes out again in order, under the same key.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { Channel } from "../../Channel.ts"
import { toJson } from "../../ChannelBase.ts"
import {
  type InvalidChannelName,
  type InvalidPayload,
  PayloadTooLarge
} from "../../RealtimeError.ts"
import { AckTimeout } from "../ClientError.ts"
import type { Failure, Message, PublishQueue, Queued, QueueFull } from "../PublishQueue.ts"
import type { Above, Connection } from "./connection.ts"
import type { Time } from "./time.ts"

/**
 * Why a publish did not happen. After `AckTimeout`, and after `Expired` with `sent`, it may have.
 *
 * @category errors
 * @since 0.1.0
 */
export type PublishError = Failure | InvalidChannelName | InvalidPayload | QueueFull

/** Unanswered at once; with those of subscriptions fewer than the 100 that the protocol allows. */
const maxUnanswered = 32

/** What `limits.frameBytes` is taken for before the first welcome, in bytes: the protocol's default. */
const defaultFrameBytes = 65_536

/** When the server says "later" without saying when, in milliseconds. */
const defaultRetryAfter = 1000

/** More messages than any server allows in a second. */
const all = 1e9

/** What the frame adds to the payload at most, in bytes: its keys, an id, a name and a key. */
const envelopeBytes = 256

export interface Publisher extends Above {
  readonly publish: <A>(channel: Channel<A>, payload: A) => Effect.Effect<void, PublishError>
}

export const make = (
  connection: Connection,
  { after }: Time,
  queue: PublishQueue["Service"],
  ackMillis: number
): Publisher => {
  /** The timers of what is unanswered. */
  const unanswered = new Set<() => void>()
  /** 0 while there is no connection. */
  let perSecond = 0
  /** How much of that is used up. */
  let spent = 0
  let frameBytes = defaultFrameBytes

  const spend = (messages: number, millis: number) => {
    spent += messages
    after(millis, () => {
      spent -= messages
      pump()
    })
  }

  const tooLarge = ({ bytes, channel }: Message) => {
    const limit = frameBytes - envelopeBytes
    return bytes > limit ? new PayloadTooLarge({ channel, bytes, limit }) : undefined
  }

  const pump = () => {
    if (spent >= perSecond || unanswered.size >= maxUnanswered) return
    const message = queue.next()
    if (message === undefined) return
    const error = tooLarge(message)
    // Whatever is settled pumps again.
    if (error !== undefined) return message.settle(Exit.fail(error))
    spend(1, 1000)
    send(message)
    pump()
  }

  const send = (message: Queued) => {
    const { channel, json, key, settle } = message
    const done: Queued["settle"] = (outcome) => {
      unanswered.delete(timer)
      settle(outcome)
      // Settling does nothing when it has expired on its way.
      pump()
    }
    const timer = after(ackMillis, () =>
      done(Exit.fail(new AckTimeout({ channel, millis: ackMillis })))
    )
    unanswered.add(timer)
    const data: unknown = JSON.parse(json)
    connection.request({ type: "publish", channel, key, data }, (answer) => {
      timer()
      if (answer.type !== "error") return done(Exit.void)
      const error = connection.refused(channel, answer)
      if (error !== undefined) return done(Exit.fail(error))
      unanswered.delete(timer)
      message.retry()
      // Nothing goes out until then.
      spend(all, answer.retryAfter ?? defaultRetryAfter)
    })
  }

  const moved = () => {
    connection.look()
    pump()
  }

  queue.onSettled(moved)
  // A queue that outlives the page may hold messages already.
  moved()

  return {
    publish: (channel, payload) =>
      Effect.gen(function* () {
        const fault = channel.fault ?? connection.stopped()
        if (fault !== undefined) return yield* fault
        const json = yield* Effect.fromResult(toJson(channel, payload))
        const bytes = new TextEncoder().encode(json).length
        // 128 random bits. `crypto.randomUUID` exists only on secure pages; this works on all.
        const key = crypto.getRandomValues(new Uint32Array(4)).join("-")
        const message = { channel: channel.name, key, json, bytes }
        const error = tooLarge(message)
        if (error !== undefined) return yield* error
        const { outcome } = yield* queue.add(message)
        moved()
        return yield* outcome
      }),
    needed: () => queue.size().messages > 0,
    open: ({ limits }) => {
      perSecond = Math.max(1, limits.publishPerSecond)
      frameBytes = limits.frameBytes
      pump()
    },
    down: () => {
      perSecond = 0
      unanswered.forEach((cancel) => cancel())
      unanswered.clear()
      queue.rewind()
    },
    end: queue.failAll
  }
}
