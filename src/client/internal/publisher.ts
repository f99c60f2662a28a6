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
import type { Connection, Refusal, Welcome } from "./connection.ts"
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

/** What the frame adds to the payload at most, in bytes: its keys, an id, a name and a key. */
const envelopeBytes = 256

export interface Publisher {
  readonly publish: <A>(channel: Channel<A>, payload: A) => Effect.Effect<void, PublishError>
  readonly open: (welcome: Welcome) => void
  readonly down: () => void
}

export const make = (
  connection: Connection,
  { after }: Time,
  queue: PublishQueue["Service"],
  ackMillis: number
): Publisher => {
  /** The timers of what is unanswered. */
  const unanswered = new Set<() => void>()
  /** Messages sent within the last second. */
  let recent = 0
  /** 0 while there is no connection. */
  let perSecond = 0
  let frameBytes = defaultFrameBytes
  /** How many refusals that said later are still to be waited for. */
  let resting = 0

  const tooLarge = ({ bytes, channel }: Message) => {
    const limit = frameBytes - envelopeBytes
    return bytes > limit ? new PayloadTooLarge({ channel, bytes, limit }) : undefined
  }

  const send = (message: Queued) => {
    const { channel, json, key, settle } = message
    const timer = after(ackMillis, () => {
      unanswered.delete(timer)
      settle(Exit.fail(new AckTimeout({ channel, millis: ackMillis })))
    })
    unanswered.add(timer)
    const data: unknown = JSON.parse(json)
    connection.request({ type: "publish", channel, key, data }, (answer) => {
      // Perhaps too late: then it is settled already.
      if (!unanswered.delete(timer)) return
      timer()
      if (answer.type === "error") refused(message, answer)
      else settle(Exit.void)
    })
  }

  const pump = () => {
    while (recent < perSecond && unanswered.size < maxUnanswered) {
      const message = resting === 0 ? queue.next() : undefined
      if (message === undefined) return
      const error = tooLarge(message)
      if (error !== undefined) message.settle(Exit.fail(error))
      else {
        recent++
        after(1000, () => {
          recent--
          pump()
        })
        send(message)
      }
    }
  }

  const refused = (message: Queued, refusal: Refusal) => {
    const error = connection.refused(message.channel, refusal)
    if (error !== undefined) return message.settle(Exit.fail(error))
    message.retry()
    resting++
    after(refusal.retryAfter ?? defaultRetryAfter, () => {
      resting--
      pump()
    })
  }

  /** The connection is needed as long as anything is queued. */
  const moved = () => {
    if (queue.size().messages > 0) connection.hold(queue)
    else connection.release(queue)
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
        const message = { channel: channel.name, key: makeKey(), json, bytes }
        const error = tooLarge(message)
        if (error !== undefined) return yield* error
        const { outcome } = yield* queue.add(message)
        moved()
        return yield* outcome
      }),
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
    }
  }
}

/** 128 random bits. `crypto.randomUUID` exists only on secure pages; this works on all. */
const makeKey = (): string => crypto.getRandomValues(new Uint32Array(4)).join("-")
