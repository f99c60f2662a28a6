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
import type { Retry } from "../../Protocol.ts"
import type { InvalidChannelName } from "../../RealtimeError.ts"
import { Gap, type RealtimeEvent } from "../../RealtimeEvent.ts"
import { type ConnectionStopped, Refused } from "../ClientError.ts"
import { type Connection, textOf } from "./connection.ts"
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
  active: boolean
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
  since: number
  lingering: boolean
  resting: boolean
  cancelLinger: () => void
  release: () => void
  failures: number
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

export const make = (deps: {
  readonly connection: Connection
  readonly time: Time
}): Subscriptions => {
  const { connection } = deps
  const { after, now } = deps.time
  const entries = new Map<string, Entry>()
  const requests = new Map<number, Entry>()
  let up = false

  const request = (entry: Entry, type: "subscribe" | "unsubscribe") => {
    const id = connection.nextId()
    requests.set(id, entry)
    const frame = { type, id, channel: entry.name }
    if (type === "unsubscribe") {
      entry.wire = "leaving"
      entry.cursor = undefined
    } else entry.wire = "joining"
    const { cursor } = entry
    entry.asked = cursor
    connection.send(textOf({ ...frame, ...(cursor !== undefined && { cursor }) }))
  }

  /** One step from what the wire is to what is wanted. */
  const drive = (entry: Entry) => {
    const { lingering, members, wire } = entry
    if (entries.get(entry.name) !== entry) return
    if (members.size > 0) {
      if (wire === "off" && up && !entry.resting && requests.size < maxRequests) {
        request(entry, "subscribe")
      }
    } else if (!lingering) {
      if (wire === "off") entries.delete(entry.name)
      else if (wire === "on" && !entry.resting) request(entry, "unsubscribe")
    }
  }

  /** A copy, because whoever is told may come and go meanwhile. */
  const each = (entry: Entry, tell: (member: Member) => void) => {
    for (const member of Array.from(entry.members)) if (member.active) tell(member)
  }

  const rest = (entry: Entry, millis: number) => {
    entry.resting = true
    after(millis, () => {
      entry.resting = false
      drive(entry)
    })
  }

  const end = (entry: Entry, error: SubscribeError) => {
    entries.delete(entry.name)
    entry.release()
    each(entry, (member) => {
      member.active = false
      member.listener.onEnd(error)
    })
  }

  /** The server will not, or not now. */
  const refused = (
    entry: Entry,
    {
      code,
      message,
      retry,
      retryAfter
    }: {
      readonly code: string
      readonly message: string
      readonly retry: Retry
      readonly retryAfter?: number
    }
  ) => {
    if (entry.wire === "on" && now() - entry.since >= connection.resetAfter) entry.failures = 0
    // An `unsubscribe` that must be repeated leaves the subscription where it was.
    entry.wire = entry.wire === "leaving" && retry !== "never" ? "on" : "off"
    if (retry === "never" || (retry === "refresh" && !connection.renew())) {
      return end(entry, new Refused({ code, channel: entry.name, message, retry }))
    }
    rest(entry, retryAfter ?? connection.jitter(++entry.failures))
  }

  const gap = (entry: Entry, reason: Gap["reason"], cursor: string) =>
    new Gap({ channel: entry.name, reason, cursor })

  /** Tells a member where it stands, and that it missed something if it wanted to stand elsewhere. */
  const place = (entry: Entry, member: Member, from: string | undefined, cursor: string) => {
    if (member.from !== undefined && member.from !== from) {
      member.listener.onEvents([gap(entry, "retention", cursor)])
    }
    member.from = undefined
    if (member.active) member.listener.onCursor?.(cursor)
  }

  const subscribed = (entry: Entry, { cursor, state }: FrameOf<ServerFrame, "subscribed">) => {
    entry.wire = "on"
    entry.since = now()
    entry.cursor = cursor
    const missed = entry.asked !== undefined && state !== "recovered"
    each(entry, (member) => {
      if (missed) member.from ??= entry.asked
      place(entry, member, missed ? undefined : entry.asked, cursor)
    })
    drive(entry)
  }

  /** Once per definition, not once per listener. */
  const deliver = (entry: Entry, frame: FrameOf<ServerFrame, "events">, before: string) => {
    const decoded = new Map<object, ReadonlyArray<RealtimeEvent<unknown>>>()
    each(entry, ({ channel, listener }) => {
      let batch = decoded.get(channel.codec)
      if (batch === undefined) decoded.set(channel.codec, (batch = decode(channel, frame, before)))
      listener.onEvents(batch)
    })
  }

  const receive = (frame: ServerFrame): void => {
    if ("id" in frame && frame.id !== undefined) {
      const entry = requests.get(frame.id)
      if (entry === undefined) return
      requests.delete(frame.id)
      if (frame.type === "subscribed") subscribed(entry, frame)
      else if (frame.type === "unsubscribed") {
        entry.wire = "off"
        drive(entry)
      } else if (frame.type === "error") refused(entry, frame)
      if (requests.size === maxRequests - 1) entries.forEach(drive)
      return
    }
    if (!("channel" in frame)) return
    const entry = entries.get(frame.channel)
    if (entry?.wire !== "on") return
    if (frame.type === "ended") return refused(entry, frame)
    if (!("cursor" in frame)) return
    const before = entry.cursor ?? frame.cursor
    entry.cursor = frame.cursor
    if (frame.type === "gap") {
      const batch = [gap(entry, frame.reason, frame.cursor)]
      each(entry, ({ listener }) => listener.onEvents(batch))
    } else if (frame.type === "events") {
      if (frame.events.length > 0) deliver(entry, frame, before)
    } else each(entry, ({ listener }) => listener.onCursor?.(frame.cursor))
  }

  const add = (name: string): Entry => {
    const entry: Entry = {
      name,
      members: new Set(),
      wire: "off",
      asked: undefined,
      cursor: undefined,
      since: 0,
      lingering: false,
      resting: false,
      cancelLinger: () => {},
      release: () => {},
      failures: 0
    }
    entries.set(name, entry)
    return entry
  }

  const leave = (entry: Entry, member: Member) => {
    if (!member.active) return
    member.active = false
    entry.members.delete(member)
    if (entry.members.size > 0) return
    entry.release()
    entry.lingering = true
    entry.cancelLinger = after(connection.linger, () => {
      entry.lingering = false
      drive(entry)
    })
  }

  const listen = <A>(channel: Channel<A>, listener: Listener<A>, from?: string) => {
    const member: Member = {
      channel,
      listener: listener as Listener<unknown>,
      active: true,
      from
    }
    const failure = channel.fault ?? connection.stopped()
    if (failure !== undefined) {
      listener.onEnd(failure)
      return () => {}
    }
    const entry = entries.get(channel.name) ?? add(channel.name)
    entry.members.add(member)
    if (entry.members.size === 1) {
      entry.cancelLinger()
      entry.lingering = false
      // Nobody was there to miss anything, unless the subscription is still on.
      if (entry.wire !== "on") entry.cursor = from
      entry.release = connection.hold()
      // The connection may have stopped at once.
      if (!member.active) entry.release()
    }
    if (entry.wire === "on" && entry.cursor !== undefined) {
      place(entry, member, entry.cursor, entry.cursor)
    }
    drive(entry)
    return () => leave(entry, member)
  }

  return {
    listen,
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
      requests.clear()
      entries.forEach((entry) => {
        entry.wire = "off"
        if (entry.members.size === 0) entry.cursor = undefined
        drive(entry)
      })
    },
    receive,
    endAll: (error) => {
      entries.forEach((entry) => end(entry, error))
    }
  }
}

/**
 * A payload that does not decode is a gap in its place. Inside a batch that gap carries the position
 * before the batch: who resumes there may see events again, but misses none.
 */
const decode = (
  channel: Any,
  { cursor, events }: FrameOf<ServerFrame, "events">,
  before: string
): ReadonlyArray<RealtimeEvent<unknown>> =>
  events.map((event, index) => {
    const last = index === events.length - 1
    const payload = payloadOf(channel, event.data)
    return payload === undefined
      ? new Gap({ channel: channel.name, reason: "invalid", cursor: last ? cursor : before })
      : {
          _tag: "Event",
          channel: channel.name,
          id: event.id,
          at: new Date(event.at),
          payload: payload.value,
          cursor: last ? cursor : undefined,
          tx: event.tx
        }
  })

const payloadOf = (channel: Any, data: unknown): { readonly value: unknown } | undefined => {
  try {
    const result = channel.decode(data)
    return Result.isSuccess(result) ? { value: result.success } : undefined
  } catch {
    // A schema's own function that throws must not take the other listeners down.
    return undefined
  }
}
