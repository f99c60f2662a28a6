/**
 * Many listeners of a channel share one subscription on the wire.
 *
 * In: listeners that come and go, frames, sessions that open and go down. Out: at most one unanswered
 * request per channel, and every event decoded once per definition. After each answer the wire is
 * compared with what is wanted now, so no order of coming, going and losing the link can leave the
 * two apart. Frames of a channel count only while its latest request is answered with `subscribed`.
 *
 * @since 0.1.0
 */
import * as Result from "effect/Result"
import type { Any, Channel } from "../../Channel.ts"
import type { FrameOf, ServerFrame } from "../../Frame.ts"
import type { InvalidChannelName } from "../../RealtimeError.ts"
import { Gap, type RealtimeEvent } from "../../RealtimeEvent.ts"
import type { ConnectionStopped, Refused } from "../ClientError.ts"
import type { Above, ChannelFrame, Connection, RefusalFields } from "./connection.ts"
import type { Time } from "./time.ts"

/**
 * Why a subscription ended.
 *
 * @category errors
 * @since 0.1.0
 */
export type SubscribeError = ConnectionStopped | InvalidChannelName | Refused

/**
 * A consumer outside Effect. Called synchronously, as the frames arrive, the first time possibly
 * before `listen` returns; must not throw.
 *
 * @category models
 * @since 0.1.0
 */
export interface Listener<in A> {
  /** What one frame brought, in order, never empty. The last one carries the position after it. */
  readonly onEvents: (batch: ReadonlyArray<RealtimeEvent<A>>) => void
  /** The subscription is active, or moved without events: all that is committed from here on comes. */
  readonly onCursor?: ((cursor: string) => void) | undefined
  /** Nothing follows; after `ConnectionStopped`, unless it begins again while the listener is there. */
  readonly onEnd: (error: SubscribeError) => void
}

interface Member {
  readonly channel: Any
  readonly listener: Listener<unknown>
  /**
   * The position it wants to go on from, until it was told whether it does; from then on `null`: it
   * stands where its share stands. Without one it wants what the first answer gives, and misses nothing.
   */
  from: string | null | undefined
}

/** One subscription on the wire. */
interface Share {
  readonly join: (member: Member & { readonly from: string | undefined }) => () => void
  /** One step from what the wire is to what is wanted. */
  readonly drive: () => void
  readonly down: () => void
  readonly receive: (frame: ChannelFrame) => void
  /** The connection has stopped; who stays is there when it begins again. */
  readonly stop: (error: SubscribeError) => void
}

/** Unanswered requests at once; the protocol allows 100 for subscriptions and publishes together. */
const maxRequests = 60

export interface Subscriptions extends Above {
  readonly listen: <A>(channel: Channel<A>, listener: Listener<A>, from?: string) => () => void
}

export const make = (connection: Connection, { after, now }: Time): Subscriptions => {
  const shares = new Map<string, Share>()
  /** All members of all shares. */
  let listeners = 0
  let unanswered = 0
  let up = false

  const share = (name: string): Share => {
    const members = new Set<Member>()
    /** The server has it. */
    let on = false
    /** A request is unanswered, so that frames do not count and nothing else is asked. */
    let asking = false
    /** The position sent with the latest `subscribe`. */
    let asked: string | undefined
    /** The position of the last frame received. */
    let cursor: string | undefined
    /** When the subscription became active. */
    let since = Infinity
    /** Refusals in a row that said later. */
    let failures = 0
    /** Nothing is asked until the server may have another answer; calling it ends that. */
    let resting: (() => void) | undefined
    /** Nobody listens any more, but somebody may come back; calling it ends that. */
    let lingering: (() => void) | undefined

    const drive = () => {
      if (asking || resting !== undefined) return
      if (members.size > 0) {
        if (!on && up && unanswered < maxRequests) request("subscribe")
      } else if (lingering === undefined) {
        if (on) request("unsubscribe")
        else shares.delete(name)
      }
    }

    const request = (type: "subscribe" | "unsubscribe") => {
      if (on) cursor = undefined
      asked = cursor
      asking = true
      unanswered++
      connection.request({ type, channel: name, cursor }, (answer) => {
        asking = false
        unanswered--
        if (answer.type === "subscribed") subscribed(answer)
        else if (answer.type === "error") refused(answer)
        else on = false
        // Others may have waited for their turn to ask.
        shares.forEach(({ drive }) => drive())
      })
    }

    /** Over a copy, because whoever is told may come and go meanwhile. */
    const each = (tell: (member: Member) => void) => {
      for (const member of Array.from(members)) if (members.has(member)) tell(member)
    }

    const end = (error: SubscribeError) => {
      on = false
      each((member) => {
        leave(member)
        member.listener.onEnd(error)
      })
    }

    /** The server will not, or not now. */
    const refused = (refusal: RefusalFields) => {
      const error = connection.refused(name, refusal)
      if (error !== undefined) return end(error)
      if (now() - since >= connection.resetAfter) failures = 0
      since = Infinity
      resting?.()
      resting = after(refusal.retryAfter ?? connection.jitter(++failures), () => {
        resting = undefined
        drive()
      })
    }

    const gap = (reason: Gap["reason"], at: string) =>
      new Gap({ channel: name, reason, cursor: at })

    /** Tells a member where it stands, and that it missed something if it wanted to stand elsewhere. */
    const place = (member: Member, from: string | undefined, at: string) => {
      const { listener } = member
      if (member.from !== undefined && (member.from ?? asked) !== from)
        listener.onEvents([gap("retention", at)])
      member.from = null
      if (members.has(member)) listener.onCursor?.(at)
    }

    const subscribed = (answer: FrameOf<ServerFrame, "subscribed">) => {
      on = true
      since = now()
      cursor = answer.cursor
      each((member) =>
        place(member, answer.state === "recovered" ? asked : undefined, answer.cursor)
      )
    }

    /**
     * A payload that does not decode is a gap in its place. Inside a batch that gap carries the
     * position before the batch: who resumes there may see events again, but misses none.
     */
    const decode = (
      { decode }: Any,
      { cursor, events }: FrameOf<ServerFrame, "events">,
      before: string
    ): ReadonlyArray<RealtimeEvent<unknown>> => {
      let date: Date
      return events.map(({ at, data, id, tx }, index) => {
        const last = index === events.length - 1
        // Most of a batch has one time, and reading it takes longer than all the rest.
        if (at !== events[index - 1]?.at) date = new Date(at)
        try {
          const decoded = decode(data)
          if (Result.isSuccess(decoded)) {
            return {
              _tag: "Event",
              channel: name,
              id,
              at: date,
              payload: decoded.success,
              cursor: last ? cursor : undefined,
              tx
            }
          }
        } catch {
          // A schema's own function that throws must not take the other listeners down.
        }
        return gap("invalid", last ? cursor : before)
      })
    }

    /** Decodes once per definition, not once per listener. */
    const deliver = (frame: FrameOf<ServerFrame, "events">, before: string) => {
      const decoded = new Map<object, ReadonlyArray<RealtimeEvent<unknown>>>()
      each(({ channel, listener }) => {
        const batch = decoded.get(channel.codec) ?? decode(channel, frame, before)
        decoded.set(channel.codec, batch)
        listener.onEvents(batch)
      })
    }

    const leave = (member: Member) => {
      if (!members.delete(member)) return
      listeners--
      connection.look()
      if (members.size > 0) return
      lingering = after(connection.linger, () => {
        lingering = undefined
        drive()
      })
    }

    return {
      join: (member) => {
        members.add(member)
        listeners++
        connection.look()
        if (members.size === 1) {
          lingering?.()
          lingering = undefined
          // Nobody was there to miss anything, unless the subscription is still on.
          if (asking || !on) cursor = member.from
        }
        if (on && !asking && cursor !== undefined) place(member, cursor, cursor)
        drive()
        return () => leave(member)
      },
      drive,
      down: () => {
        on = asking = false
        if (members.size === 0) cursor = undefined
        // What this server said need not hold for the next session.
        resting?.()
        resting = undefined
        drive()
      },
      receive: (frame) => {
        if (asking || !on) return
        if (frame.type === "ended") {
          on = false
          return refused(frame)
        }
        const before = cursor ?? frame.cursor
        cursor = frame.cursor
        if (frame.type === "events") {
          if (frame.events.length > 0) deliver(frame, before)
        } else {
          each(({ listener }) =>
            frame.type === "gap"
              ? listener.onEvents([gap(frame.reason, frame.cursor)])
              : listener.onCursor?.(frame.cursor)
          )
        }
      },
      stop: (error) => each(({ listener }) => listener.onEnd(error))
    }
  }

  return {
    listen: <A>(channel: Channel<A>, listener: Listener<A>, from?: string) => {
      const { fault, name } = channel
      if (fault !== undefined) {
        listener.onEnd(fault)
        return () => {}
      }
      const shared = shares.get(name) ?? share(name)
      shares.set(name, shared)
      const leave = shared.join({ channel, listener: listener as Listener<unknown>, from })
      const stopped = connection.stopped()
      if (stopped !== undefined) listener.onEnd(stopped)
      return leave
    },
    needed: () => listeners > 0,
    open: () => {
      up = true
      shares.forEach(({ drive }) => drive())
    },
    down: () => {
      up = false
      unanswered = 0
      shares.forEach(({ down }) => down())
    },
    receive: (frame) => shares.get(frame.channel)?.receive(frame),
    end: (error) => shares.forEach(({ stop }) => stop(error))
  }
}
