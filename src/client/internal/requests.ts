/**
 * The requests of one session that the server has not answered yet.
 *
 * In: requests, and their answers. Out: frames with their ids, each answer to its request, and from when on
 * the oldest request is overdue, so that the connection must look at the link.
 *
 * @since 0.1.0
 */
import type { FrameOf, ServerFrame } from "../../Frame.ts"
import { Refused } from "../ClientError.ts"
import type { Ask } from "./connectionStates.ts"

/** How long a request waits, and nothing is heard, before it is overdue, in milliseconds. */
const patience = 2000

/** What any link carries, in bytes per millisecond: a request that is still on its way is not overdue. */
const slowest = 16

/** What belongs to one channel. */
export type ChannelFrame = FrameOf<ServerFrame, "events" | "state" | "cursor" | "gap" | "ended">

/** Of the answers only a state is such a frame too. */
export const isOfChannel = (frame: ServerFrame): frame is ChannelFrame =>
  frame.type === "state" || ("channel" in frame && !("id" in frame))

/** The part of `error` and `ended` that says why, and what to do about it. */
export type RefusalFields = Omit<FrameOf<ServerFrame, "error">, "type" | "id">

/** The error of a refusal; with `retryAfter` where the client asks again by itself. */
export const refusedOf = (
  channel: string,
  { code, message, retry }: RefusalFields,
  retryAfter?: number
): Refused => new Refused({ channel, code, message, retry, retryAfter })

interface Waiting {
  readonly onAnswer: (frame: ServerFrame) => void
  readonly at: number
  readonly bytes: number
}

export interface Requests {
  readonly ask: Ask
  readonly answered: (id: number, frame: ServerFrame) => void
  /** Something was heard last at `heardAt`. */
  readonly overdueAt: (heardAt: number) => number
}

export const make = (send: (text: string) => void, now: () => number): Requests => {
  const unanswered = new Map<number, Waiting>()
  let bytes = 0
  let lastId = 0
  return {
    ask: (frame, onAnswer) => {
      const text = JSON.stringify({ type: frame.type, id: ++lastId, ...(frame as object) })
      unanswered.set(lastId, { onAnswer, at: now(), bytes: text.length })
      bytes += text.length
      send(text)
    },
    answered: (id, frame) => {
      const waiting = unanswered.get(id)
      if (waiting === undefined) return
      unanswered.delete(id)
      bytes -= waiting.bytes
      waiting.onAnswer(frame)
    },
    overdueAt: (heardAt) => {
      const [oldest] = unanswered.values()
      return oldest === undefined
        ? Infinity
        : Math.max(heardAt, oldest.at) + patience + bytes / slowest
    }
  }
}
