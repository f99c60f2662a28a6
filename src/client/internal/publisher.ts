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
import * as Result from "effect/Result"
import type { Channel } from "../../Channel.ts"
import { toJson } from "../../ChannelBase.ts"
import { encodePublish, type FrameOf, type ServerFrame } from "../../Frame.ts"
import {
  type InvalidChannelName,
  type InvalidPayload,
  PayloadTooLarge
} from "../../RealtimeError.ts"
import { AckTimeout, type ConnectionStopped, Refused } from "../ClientError.ts"
import type { Failure, PublishQueue, Queued, QueueFull } from "../PublishQueue.ts"
import type { Connection, Welcome } from "./connection.ts"
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
  readonly receive: (frame: ServerFrame) => void
  readonly endAll: (error: ConnectionStopped) => void
}

export const make = (deps: {
  readonly connection: Connection
  readonly queue: PublishQueue["Service"]
  readonly time: Time
  readonly ackMillis: number
}): Publisher => {
  const { ackMillis, connection, queue } = deps
  const { after, now } = deps.time
  const unanswered = new Map<number, { readonly message: Queued; readonly cancel: () => void }>()
  /** When the latest messages were sent, at most one second's worth: none goes out before the first is a second old. */
  let sent: Array<number> = []
  let perSecond = 1
  let frameBytes = defaultFrameBytes
  let up = false
  let notBefore = 0
  let cancelPump: (() => void) | undefined
  let release: (() => void) | undefined

  const tooLarge = ({ bytes, channel }: { readonly bytes: number; readonly channel: string }) => {
    const limit = frameBytes - envelopeBytes
    return bytes > limit ? new PayloadTooLarge({ channel, bytes, limit }) : undefined
  }

  const send = (message: Queued) => {
    const { channel, json, key } = message
    const id = connection.nextId()
    const cancel = after(ackMillis, () => {
      unanswered.delete(id)
      message.settle(Exit.fail(new AckTimeout({ channel, millis: ackMillis })))
    })
    unanswered.set(id, { message, cancel })
    connection.send(encodePublish(id, channel, key, json))
  }

  const pump = () => {
    cancelPump?.()
    if (!up) return
    while (unanswered.size < maxUnanswered) {
      const time = now()
      const free = sent.length < perSecond ? 0 : sent[sent.length - perSecond]! + 1000
      const wait = Math.max(free, notBefore) - time
      if (wait > 0) {
        if (queue.size().messages > unanswered.size) cancelPump = after(wait, pump)
        return
      }
      const message = queue.next()
      if (message === undefined) return
      const error = tooLarge(message)
      if (error !== undefined) message.settle(Exit.fail(error))
      else {
        sent = [...sent.slice(1 - perSecond), time]
        send(message)
      }
    }
  }

  const refused = (message: Queued, frame: FrameOf<ServerFrame, "error">) => {
    const { code, retry, retryAfter } = frame
    if (retry === "never" || (retry === "refresh" && !connection.renew())) {
      const { channel } = message
      return message.settle(
        Exit.fail(new Refused({ code, channel, message: frame.message, retry }))
      )
    }
    message.retry()
    notBefore = now() + (retryAfter ?? defaultRetryAfter)
  }

  const settled = () => {
    if (queue.size().messages > 0) return
    release?.()
    release = undefined
  }

  const needed = () => {
    if (queue.size().messages > 0) release ??= connection.hold()
    // The connection may have stopped at once.
    settled()
  }

  queue.onSettled(settled)
  // A queue that outlives the page may hold messages already.
  needed()

  return {
    publish: (channel, payload) =>
      Effect.suspend((): Effect.Effect<void, PublishError> => {
        const fault = channel.fault ?? connection.stopped()
        if (fault !== undefined) return Effect.fail(fault)
        const json = toJson(channel, payload)
        if (Result.isFailure(json)) return Effect.fail(json.failure)
        const message = {
          channel: channel.name,
          key: makeKey(),
          json: json.success,
          bytes: byteLength(json.success)
        }
        const error = tooLarge(message)
        if (error !== undefined) return Effect.fail(error)
        const added = queue.add(message)
        if (Exit.isFailure(added)) return added
        needed()
        pump()
        return added.value.outcome
      }),
    open: ({ limits }) => {
      up = true
      perSecond = Math.max(1, limits.publishPerSecond)
      frameBytes = limits.frameBytes
      pump()
    },
    down: () => {
      up = false
      cancelPump?.()
      for (const { cancel } of unanswered.values()) cancel()
      unanswered.clear()
      queue.rewind()
    },
    receive: (frame) => {
      if (!("id" in frame) || frame.id === undefined) return
      const waiting = unanswered.get(frame.id)
      if (waiting === undefined) return
      unanswered.delete(frame.id)
      waiting.cancel()
      if (frame.type === "error") refused(waiting.message, frame)
      else waiting.message.settle(Exit.void)
      pump()
    },
    endAll: queue.failAll
  }
}

/** 32 hexadecimal digits. `crypto.randomUUID` exists only on secure pages; this works on all. */
const makeKey = (): string =>
  Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) =>
    byte.toString(16).padStart(2, "0")
  ).join("")

const utf8 = /* @__PURE__ */ new TextEncoder()

const byteLength = (text: string): number => utf8.encode(text).length
