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
import type { Connection, Refusal } from "./connection.ts"
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
  /** Nothing follows. */
  readonly onEnd: (error: SubscribeError) => void
}

interface Member {
  readonly channel: Any
  readonly listener: Listener<unknown>
  /** The position it wants to go on from, until it was told whether it does. */
  from: string | undefined
}

interface Entry {
  readonly name: string
  readonly members: Set<Member>
  wire: "off" | "joining" | "on" | "leaving"
  /** The position sent with the latest `subscribe`. */
  asked: string | undefined
  /** The position of the last frame received. */
  cursor: string | undefined
  /** When it was last answered with `subscribed`. */
  since: number
  /** Refusals in a row that said later. */
  failures: number
  /** Nothing is asked until the time that the server gave is over. */
  resting: boolean
  /** Kept for somebody who comes back; calling it ends that. */
  lingering: (() => void) | undefined
}

/** Unanswered requests at once; the protocol allows 100 for subscriptions and publishes together. */
const maxRequests = 60

export interface Subscriptions {
  readonly listen: <A>(channel: Channel<A>, listener: Listener<A>, from?: string) => () => void
  readonly open: () => void
  readonly down: () => void
  readonly receive: (frame: ServerFrame) => void
  readonly endAll: (error: SubscribeError) => void
}

export const make = (connection: Connection, { after, now }: Time): Subscriptions => {
  const entries = new Map<string, Entry>()
  let unanswered = 0
  let up = false

  const request = (entry: Entry, type: "subscribe" | "unsubscribe") => {
    const subscribes = type === "subscribe"
    entry.wire = subscribes ? "joining" : "leaving"
    if (!subscribes) entry.cursor = undefined
    entry.asked = entry.cursor
    unanswered++
    connection.request({ type, channel: entry.name, cursor: entry.cursor }, (answer) => {
      unanswered--
      if (answer.type === "subscribed") subscribed(entry, answer)
      else if (answer.type === "error") refused(entry, answer)
      else {
        entry.wire = "off"
        drive(entry)
      }
      if (unanswered === maxRequests - 1) entries.forEach(drive)
    })
  }

  /** One step from what the wire is to what is wanted. */
  const drive = (entry: Entry) => {
    const { members, name, wire } = entry
    if (entry.resting || entries.get(name) !== entry) return
    if (members.size > 0) {
      if (wire === "off" && up && unanswered < maxRequests) request(entry, "subscribe")
    } else if (entry.lingering === undefined) {
      if (wire === "off") entries.delete(name)
      else if (wire === "on") request(entry, "unsubscribe")
    }
  }

  /** Over a copy, because whoever is told may come and go meanwhile. */
  const each = ({ members }: Entry, tell: (member: Member) => void) => {
    for (const member of Array.from(members)) if (members.has(member)) tell(member)
  }

  const end = (entry: Entry, error: SubscribeError) => {
    entries.delete(entry.name)
    connection.release(entry)
    each(entry, (member) => {
      entry.members.delete(member)
      member.listener.onEnd(error)
    })
  }

  /** The server will not, or not now. */
  const refused = (entry: Entry, refusal: Refusal) => {
    const { name, since, wire } = entry
    const error = connection.refused(name, refusal)
    // An `unsubscribe` that must be repeated leaves the subscription where it was.
    entry.wire = wire === "leaving" && error === undefined ? "on" : "off"
    if (error !== undefined) return end(entry, error)
    if (wire === "on" && now() - since >= connection.resetAfter) entry.failures = 0
    entry.resting = true
    after(refusal.retryAfter ?? connection.jitter(++entry.failures), () => {
      entry.resting = false
      drive(entry)
    })
  }

  /** Tells a member where it stands, and that it missed something if it wanted to stand elsewhere. */
  const place = (
    { members, name }: Entry,
    member: Member,
    from: string | undefined,
    cursor: string
  ) => {
    const { listener } = member
    if (member.from !== undefined && member.from !== from) {
      listener.onEvents([gap(name, "retention", cursor)])
    }
    member.from = undefined
    if (members.has(member)) listener.onCursor?.(cursor)
  }

  const subscribed = (entry: Entry, { cursor, state }: FrameOf<ServerFrame, "subscribed">) => {
    const { asked } = entry
    entry.wire = "on"
    entry.since = now()
    entry.cursor = cursor
    each(entry, (member) => {
      member.from ??= asked
      place(entry, member, state === "recovered" ? asked : undefined, cursor)
    })
    drive(entry)
  }

  /** Once per definition, not once per listener. */
  const deliver = (entry: Entry, frame: FrameOf<ServerFrame, "events">, before: string) => {
    const decoded = new Map<object, ReadonlyArray<RealtimeEvent<unknown>>>()
    each(entry, ({ channel, listener }) => {
      const batch = decoded.get(channel.codec) ?? decode(channel, frame, before)
      decoded.set(channel.codec, batch)
      listener.onEvents(batch)
    })
  }

  const leave = (entry: Entry, member: Member) => {
    if (!entry.members.delete(member) || entry.members.size > 0) return
    connection.release(entry)
    entry.lingering = after(connection.linger, () => {
      entry.lingering = undefined
      drive(entry)
    })
  }

  return {
    listen: <A>(channel: Channel<A>, listener: Listener<A>, from?: string) => {
      const { name } = channel
      const failure = channel.fault ?? connection.stopped()
      if (failure !== undefined) {
        listener.onEnd(failure)
        return () => {}
      }
      const entry: Entry = entries.get(name) ?? {
        name,
        members: new Set(),
        wire: "off",
        asked: undefined,
        cursor: undefined,
        since: 0,
        failures: 0,
        resting: false,
        lingering: undefined
      }
      entries.set(name, entry)
      const member: Member = { channel, listener: listener as Listener<unknown>, from }
      entry.members.add(member)
      if (entry.members.size === 1) {
        entry.lingering?.()
        entry.lingering = undefined
        // Nobody was there to miss anything, unless the subscription is still on.
        if (entry.wire !== "on") entry.cursor = from
        connection.hold(entry)
      }
      if (entry.wire === "on" && entry.cursor !== undefined) {
        place(entry, member, entry.cursor, entry.cursor)
      }
      drive(entry)
      return () => leave(entry, member)
    },
    open: () => {
      up = true
      entries.forEach((entry) => {
        // What this server said earlier, or another one, need not hold for this session.
        entry.resting = false
        drive(entry)
      })
    },
    down: () => {
      up = false
      unanswered = 0
      entries.forEach((entry) => {
        entry.wire = "off"
        if (entry.members.size === 0) entry.cursor = undefined
        drive(entry)
      })
    },
    receive: (frame) => {
      const entry = "channel" in frame ? entries.get(frame.channel) : undefined
      if (entry?.wire !== "on") return
      if (frame.type === "ended") return refused(entry, frame)
      if (!("cursor" in frame)) return
      const { cursor } = frame
      const before = entry.cursor ?? cursor
      entry.cursor = cursor
      if (frame.type === "events") {
        if (frame.events.length > 0) deliver(entry, frame, before)
      } else {
        each(entry, ({ listener }) =>
          frame.type === "gap"
            ? listener.onEvents([gap(entry.name, frame.reason, cursor)])
            : listener.onCursor?.(cursor)
        )
      }
    },
    endAll: (error) => entries.forEach((entry) => end(entry, error))
  }
}

export const gap = (channel: string, reason: Gap["reason"], cursor: string): Gap =>
  new Gap({ channel, reason, cursor })

/**
 * A payload that does not decode is a gap in its place. Inside a batch that gap carries the position
 * before the batch: who resumes there may see events again, but misses none.
 */
const decode = (
  { decode, name }: Any,
  { cursor, events }: FrameOf<ServerFrame, "events">,
  before: string
): ReadonlyArray<RealtimeEvent<unknown>> =>
  events.map(({ at, data, id, tx }, index) => {
    const last = index === events.length - 1
    try {
      const decoded = decode(data)
      if (Result.isSuccess(decoded)) {
        return {
          _tag: "Event",
          channel: name,
          id,
          at: new Date(at),
          payload: decoded.success,
          cursor: last ? cursor : undefined,
          tx
        }
      }
    } catch {
      // A schema's own function that throws must not take the other listeners down.
    }
    return gap(name, "invalid", last ? cursor : before)
  })
