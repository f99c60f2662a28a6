/**
 * Many listeners of a channel share one subscription on the wire.
 *
 * In: listeners that come and go, frames, sessions that open and go down. Out: at most one unanswered
 * request per channel, and every event decoded once per definition. After each answer the wire is
 * compared with what is wanted now, so no order of coming, going and losing the link can leave the
 * two apart. Frames of a channel count only while its latest request is answered with `subscribed`.
 *
 * A listener joins at any durable position. If its position is newer than the stream, the share holds its
 * events until the stream has passed that position. If it is older, the share subscribes again from there,
 * and every other member keeps its own position until the stream has passed it.
 *
 * A share is one channel with one filter. Its frames carry the view that the server named. While a member
 * collects rows, the share subscribes with a state. A state moves the stream to its cursor: members without
 * rows keep their positions, as above.
 *
 * @since 0.1.0
 */
import type { Any, Channel } from "../../Channel.ts"
import type { FrameOf, ServerFrame, Where, WireEvent } from "../../Frame.ts"
import { covers, readDurable, seenEvent } from "../../internal/cursorText.ts"
import { type Event, Gap, type RealtimeEvent } from "../../RealtimeEvent.ts"
import type { Refused } from "../ClientError.ts"
import type { Above, Connection } from "./connectionMachine.ts"
import { decode, together } from "./decoding.ts"
import type { Collection, Listener, Member, StateFrame, SubscribeError, Told } from "./listener.ts"
import { type ChannelFrame, type RefusalFields, refusedOf } from "./requests.ts"
import type { Time } from "./time.ts"

/** One subscription on the wire. */
interface Share {
  readonly join: (member: Member) => () => void
  /** One step from what the wire is to what is wanted. */
  readonly drive: () => void
  readonly down: () => void
  /** The connection is not open. */
  readonly inactive: () => void
  readonly receive: (frame: ChannelFrame) => void
  /** The connection has stopped, unless a member connects again; one that stays is there when it begins again. */
  readonly stop: (error: SubscribeError) => void
  readonly last: (channel: Any) => RealtimeEvent<unknown> | undefined
}

/** Unanswered requests at once; the protocol allows 100, also for publishes. */
const maxRequests = 40

/** A state is asked for at once again when none was for so long, in milliseconds. */
const quiet = 60_000

/** Beyond so many held events the server replays them instead: it is the server's own bound of a replay. */
const maxHeld = 10_000

/** The event of a table lacks its row, so that the server sends the state as after a gap. */
const isCut = ({ data }: WireEvent) => {
  const { operation, truncated } = Object(data)
  return truncated === true && operation !== "DELETE"
}

export interface Subscriptions extends Above {
  readonly listen: <A>(
    channel: Channel<A>,
    listener: Listener<A>,
    from?: string,
    where?: Where,
    collection?: Collection
  ) => () => void
  /** Looks at what the collections lack. */
  readonly look: () => void
  /** The last event that the open subscription of a channel delivered, with the position up to which it is the last. */
  readonly last: <A>(channel: Channel<A>) => Event<A> | undefined
}

export const make = (connection: Connection, { after, now }: Time): Subscriptions => {
  const shares = new Map<string, Share>()
  /** All members of all shares. */
  let listeners = 0
  let unanswered = 0
  let up = false

  const look = () => shares.forEach(({ drive }) => drive())

  const share = (name: string, where: Where | undefined, key: string): Share => {
    const members = new Set<Member>()
    /** The server has it. */
    let on = false
    /** A request is unanswered, so that frames do not count and nothing else is asked. */
    let asking = false
    /** The position sent with the latest `subscribe`. */
    let asked: string | undefined
    /** While it is on: the position of the last frame received. */
    let cursor: string | undefined
    /** Where the stream stood before a replay for a new member, until it has passed that position again. */
    let head: string | undefined
    /** The last event at the head of the stream. */
    let last: WireEvent | undefined
    /** The position up to which `last` is the last: that of the stream, or where a gap begins. */
    let lastAt = ""
    /** When the subscription became active. */
    let since = Infinity
    /** Refusals in a row that said later. */
    let failures = 0
    /** The latest refusal, while it holds. */
    let refusal: Refused | undefined
    /** Nothing is asked until the server may have another answer; calling it ends that. */
    let resting: (() => void) | undefined
    /** No listener is left, but one may join again; calling it ends that. */
    let lingering: (() => void) | undefined
    /** What its frames carry, where the server filters. */
    let view: string | undefined
    /** The latest subscription is one with a state: another one follows each gap. */
    let hasState = false
    /** A state follows, so that none is asked for. */
    let coming = false
    /** The cursor of the state that is arriving. */
    let stateAt: string | undefined
    /** The last state, if it has one row at most and nothing followed it: another member need not ask for it. */
    let kept: StateFrame | undefined
    /** States asked for in a row, and the time of the last. */
    let states = 0
    let stateAskedAt = -Infinity
    /** Another number says that the subscription is another one, or over. */
    let span = 0

    const drive = () => {
      if (asking || resting !== undefined) return
      if (members.size > 0) {
        if (!on) {
          if (up && unanswered < maxRequests) request("subscribe")
        } else if (stateAt === undefined && some(isPassed)) {
          // After the whole state: rows would ask for it again, and the next one may be newer, too.
          head ??= cursor
          request("unsubscribe")
        } else if (!coming && some((member) => lacks(member) > 0)) askState()
      } else if (lingering === undefined) {
        if (on) request("unsubscribe")
        else shares.delete(key)
      }
    }

    const some = (is: (member: Member) => unknown) => Array.from(members).some(is)

    const collects = ({ collection }: Member) => collection !== undefined

    const lacks = ({ collection }: Member) => collection?.lacks() ?? 0

    /** Whether the stream has passed the position that a member waits for. */
    const isPassed = ({ from, held }: Member) =>
      typeof from === "string" && held === undefined && covers(cursor!, from)

    /** The oldest position of all members, or the first where they cannot be compared. */
    const oldest = () => {
      const all = [...new Set(Array.from(members, ({ from }) => from ?? []).flat())]
      return all.find((one) => all.every((other) => covers(other, one))) ?? all[0]
    }

    const request = (type: "subscribe" | "unsubscribe") => {
      keep()
      const isNew = type === "subscribe"
      asked = isNew ? oldest() : undefined
      hasState = isNew && some(collects)
      asking = true
      stateAt = kept = undefined
      span++
      const fields = isNew
        ? // Volatile channels have no position, which is the empty one here.
          { type, channel: name, cursor: asked || undefined, state: hasState || undefined, where }
        : { type, channel: name, view }
      ask(fields, (answer) => {
        asking = false
        if (answer.type === "subscribed") subscribed(answer)
        else if (answer.type === "error") refused(answer)
        else on = false
      })
    }

    const ask = (
      frame: Parameters<Connection["request"]>[0],
      onAnswer: (answer: ServerFrame) => void
    ) => {
      unanswered++
      connection.request(frame, (answer) => {
        unanswered--
        onAnswer(answer)
        // Others may have waited for their turn to ask.
        look()
      })
    }

    /** Asks for the state: at once, or later when it was asked for a short time ago. */
    const askState = () => {
      if (unanswered >= maxRequests) return
      const mine = span
      if (now() - stateAskedAt > quiet) states = 0
      stateAskedAt = now()
      coming = true
      const send = () => {
        if (span !== mine) return
        ask({ type: "state", channel: name, view }, (answer) => {
          if (answer.type !== "error" || span !== mine) return
          const error = connection.refused(name, answer)
          if (error !== undefined) {
            coming = false
            return end(error, collects)
          }
          const later = refusalOf(answer, ++states)
          after(later.retryAfter!, send)
          inactive(later, collects)
        })
      }
      if (states === 0) send()
      else after(connection.jitter(states), send)
      states++
    }

    /** The stream breaks off: each member keeps the position up to which it has received everything. */
    const keep = () => {
      for (const member of members) {
        // What it has is no position to go on from.
        if (lacks(member) > 1) member.from = undefined
        else if (member.from === null) member.from = cursor
        member.held = undefined
      }
    }

    const over = () => {
      keep()
      span++
      on = asking = false
      head = refusal = stateAt = kept = undefined
    }

    /** Over a copy, because a listener may leave or join meanwhile. */
    const each = (tell: (member: Member) => void) => {
      for (const member of Array.from(members)) if (members.has(member)) tell(member)
    }

    /** Finds what all receive before the first one does: a listener may change anything, and close the client. */
    const tell = (find: (member: Member) => Told | undefined) => {
      for (const told of Array.from(members, find)) {
        if (told === undefined || connection.stopped()) continue
        const [member, batch, at] = told
        const { listener } = member
        member.away = undefined
        if (batch.length > 0 && members.has(member)) listener.onEvents(batch)
        if (at !== undefined && members.has(member)) listener.onCursor?.(at)
      }
    }

    /** Calls `onInactive` of each member that has not received this yet. */
    const inactive = (error?: Refused, of: (member: Member) => boolean = () => true) => {
      const code = error?.code ?? ""
      each((member) => {
        if (member.away === code || !of(member)) return
        member.away = code
        member.listener.onInactive?.(error)
      })
    }

    const end = (error: SubscribeError, of: (member: Member) => boolean) => {
      each((member) => {
        if (!of(member)) return
        leave(member)
        member.listener.onEnd(error)
      })
    }

    /** The server will not, or not now. */
    const refused = (answer: RefusalFields) => {
      const error = connection.refused(name, answer)
      // The server may refuse the state only: members without rows ask again, without it.
      if (error !== undefined) return end(error, (member) => !hasState || collects(member))
      if (now() - since >= connection.resetAfter) failures = 0
      since = Infinity
      refusal = refusalOf(answer, ++failures)
      resting?.()
      resting = after(refusal.retryAfter!, () => {
        resting = undefined
        drive()
      })
      inactive(refusal)
    }

    const refusalOf = (answer: RefusalFields, failures: number): Refused =>
      refusedOf(name, answer, answer.retryAfter ?? connection.jitter(failures))

    const gap = (reason: Gap["reason"], at: string, change?: Gap["change"]) =>
      new Gap({ channel: name, reason, cursor: at, change })

    /**
     * Compares a member's position with the stream's. A member at `here` goes on with the stream, and the
     * server cannot replay what follows `lost`. An older member receives nothing: the stream must go back
     * first.
     */
    const place = (member: Member, here?: string, lost?: string): Told | undefined => {
      const { from } = member
      const at = cursor!
      const isHere = from === undefined || (from === here && from !== lost)
      const newer = isHere || from === lost ? undefined : covers(from!, at)
      if (newer === undefined) member.from = null
      else if (newer) member.held = []
      else return undefined
      return [member, newer || isHere ? [] : [gap("retention", at)], newer ? from! : at]
    }

    const subscribed = (answer: FrameOf<ServerFrame, "subscribed">) => {
      const { cursor: at = "", state } = answer
      on = true
      since = now()
      cursor = at
      view = answer.view
      coming = hasState && state !== "recovered"
      refusal = undefined
      const here = state === "recovered" ? asked : at
      const lost = state === "reset" ? asked : undefined
      tell((member) => place(member, here, lost))
    }

    /** The stream goes on from the cursor of a state. */
    const stated = (frame: StateFrame) => {
      const at = frame.cursor
      const isFirst = at !== stateAt
      stateAt = frame.more ? at : undefined
      coming = frame.more
      kept = isFirst && frame.rows.length < 2 ? frame : undefined
      if (isFirst && at !== cursor) {
        keep()
        if (covers(at, cursor!) === false) head ??= cursor
        cursor = at
        tell((member) => (collects(member) ? undefined : place(member, at)))
      }
      each((member) => {
        if (collects(member)) hand(member, frame, isFirst)
      })
      drive()
    }

    const hand = (member: Member, frame: StateFrame, isFirst: boolean) => {
      if (isFirst) {
        member.from = null
        member.held = undefined
      }
      member.away = undefined
      member.collection!.onState(frame, isFirst)
    }

    const received = (frame: FrameOf<ServerFrame, "events" | "cursor" | "gap">) => {
      const before = cursor!
      const { cursor: at = "" } = frame
      cursor = at
      const events = frame.type === "events" ? frame.events : []
      if (frame.type !== "cursor") kept = undefined
      const isOld = seenEvent(readDurable(head ?? ""))
      const newest = events.findLast((event) => !isOld(event))
      const isNext = frame.type !== "gap" && covers(lastAt, before) && !covers(lastAt, at)
      if (newest !== undefined || isNext) lastAt = at
      last = newest ?? last
      if (head !== undefined && covers(at, head) !== false) head = undefined

      const gaps = frame.type === "gap" ? [gap(frame.reason, at, frame.change)] : []
      if (frame.type === "gap") {
        if (frame.reason === "rights") view = frame.now
        // It ends a state that is not whole.
        if (frame.change === undefined) coming = hasState
      } else if (hasState && events.some(isCut) && some(({ channel }) => channel.table)) {
        coming = true
      }
      /** Decodes once per definition, not once per listener. */
      const decoded = new Map<object, ReadonlyArray<RealtimeEvent<unknown>>>()
      const broughtTo = ({ channel }: Member) => {
        if (events.length === 0) return gaps
        const batch = decoded.get(channel.codec) ?? decode(channel, events, at, before)
        decoded.set(channel.codec, batch)
        return batch
      }
      tell((member) => {
        const { from, held } = member
        let batch: Told[1]
        if (from === null) batch = broughtTo(member)
        else if (held === undefined) return place(member)
        else {
          const isBehind = seenEvent(readDurable(from!))
          const isNew = (index: number) =>
            events.length > 0 ? !isBehind(events[index]!) : !covers(from!, at)
          for (const [index, event] of broughtTo(member).entries()) {
            if (isNew(index)) held.push(event)
          }
          if (held.length > maxHeld) member.held = undefined
          if (covers(at, from!) === false) return undefined
          member.from = null
          member.held = undefined
          batch = together(held, at, from!)
        }
        return [member, batch, batch.length > 0 ? undefined : at]
      })
      drive()
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
        lingering?.()
        lingering = undefined
        // Events that the server replays for another member are old.
        member.from ??= head
        if (on && !asking) {
          tell((one) => (one === member ? place(one, cursor) : undefined))
          if (kept && !member.channel.table && lacks(member) > 1)
            hand(member, { ...kept, cursor: cursor! }, true)
        } else if (refusal !== undefined) inactive(refusal)
        drive()
        return () => leave(member)
      },
      drive,
      inactive,
      down: () => {
        over()
        inactive()
        // What this server said need not hold for the next session.
        resting?.()
        resting = undefined
        drive()
      },
      receive: (frame) => {
        if (frame.type === "members" || frame.channel !== name) return
        if (frame.view !== view || asking || !on) return
        if (frame.type === "state") return stated(frame)
        if (frame.type !== "ended") return received(frame)
        over()
        refused(frame)
        drive()
      },
      stop: (error) =>
        each((member) => {
          if (!connection.stopped()) return
          member.away = undefined
          member.listener.onEnd(error)
        }),
      last: (channel) => last && decode(channel, [last], lastAt, "")[0]
    }
  }

  // Nothing is active before `open`: this reaches those that have heard of a stop before.
  connection.state.subscribe(() => {
    if (connection.stopped() === undefined) shares.forEach(({ inactive }) => inactive())
  })

  return {
    listen: (channel, listener, from, where, collection) => {
      const { fault, name } = channel
      if (fault !== undefined) {
        listener.onEnd(fault)
        return () => {}
      }
      const stopped = connection.stopped()
      const key = where === undefined ? name : name + JSON.stringify(where)
      const shared = shares.get(key) ?? share(name, where, key)
      shares.set(key, shared)
      const leave = shared.join({
        channel,
        listener: listener as Listener<unknown>,
        collection,
        from,
        held: undefined,
        away: up || stopped ? undefined : ""
      })
      if (stopped) listener.onEnd(stopped)
      return leave
    },
    last: <A>(channel: Channel<A>) => {
      const last = shares.get(channel.name)?.last(channel)
      return last?._tag === "Event" ? (last as Event<A>) : undefined
    },
    needed: () => listeners > 0,
    look,
    open: () => {
      up = true
      look()
    },
    down: () => {
      up = false
      unanswered = 0
      shares.forEach(({ down }) => down())
    },
    receive: (frame) => shares.forEach(({ receive }) => receive(frame)),
    end: (error) => shares.forEach(({ stop }) => stop(error))
  }
}
