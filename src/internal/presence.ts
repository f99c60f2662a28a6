/**
 * The members of a presence channel, decoded and kept current: what its definition brings to a client.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import { toJson } from "../ChannelBase.ts"
import { attempt, report } from "./callbacks.ts"
import { onceTogether } from "./nextFrame.ts"
import * as PresenceRooms from "./presenceRooms.ts"
import type {
  Over,
  Holder,
  Member,
  Members,
  Own,
  PresenceChannel,
  PresenceHost,
  PresenceKeeper,
  Shown,
  View,
  WireMember
} from "./presenceTypes.ts"

/** All users of a client share the states, so that none may change one. */
const freeze = <A>(value: A): A => {
  const isPlain = Array.isArray(value) || Object.getPrototypeOf(Object(value)) === Object.prototype
  if (isPlain && !Object.isFrozen(value))
    Object.values(Object.freeze(value) as object).forEach(freeze)
  return value
}

const same = <A>(list: ReadonlyArray<A>, before: ReadonlyArray<A>): ReadonlyArray<A> =>
  list.length === before.length && list.every((value, index) => value === before[index])
    ? before
    : Object.freeze(list)

const none: Members<never> = Object.freeze({
  members: Object.freeze([]),
  count: 0,
  named: true,
  me: undefined,
  status: "loading",
  error: undefined,
  invalid: Object.freeze([])
})

const decode = (channel: PresenceChannel, data: unknown) => {
  try {
    return channel.decode(data)
  } catch {
    // A schema's own function that throws must not take the other members down.
    return Result.fail(undefined)
  }
}

const viewOf = (room: View["room"], channel: PresenceChannel): View => {
  let decoded = new Map<
    string,
    { readonly entry: WireMember; readonly member: Member<unknown> | undefined }
  >()
  let shown: Members<unknown> = none
  return {
    room,
    shown: () => {
      const { count, entries, error, me: id, named, status } = room.now()
      const before = decoded
      decoded = new Map()
      const good: Array<Member<unknown>> = []
      const bad: Array<string> = []
      let me: Member<unknown> | undefined
      for (const [key, entry] of entries) {
        const isMe = key === id
        let one = before.get(key)
        if (one?.entry !== entry) {
          const result = decode(channel, entry.data)
          const state = Result.isSuccess(result) ? freeze(result.success) : undefined
          const member = Result.isSuccess(result) ? { id: key, state, isMe } : undefined
          one = { entry, member: Object.freeze(member) }
        } else if (one.member !== undefined && one.member.isMe !== isMe) {
          one = { entry, member: Object.freeze({ ...one.member, isMe }) }
        }
        decoded.set(key, one)
        if (one.member === undefined) bad.push(key)
        else good.push(one.member)
        if (isMe) me = one.member
      }
      const members = same(good, shown.members)
      const invalid = same(bad, shown.invalid)
      const next = { members, count, named, me, status, error, invalid }
      const keys = Object.keys(next) as ReadonlyArray<keyof typeof next>
      if (keys.some((key) => next[key] !== shown[key])) shown = Object.freeze(next)
      return shown
    }
  }
}

/** The members for a definition: definitions of one channel share its room. */
const open = (host: PresenceHost, channel: PresenceChannel, mine?: View): View => {
  host.rooms ??= PresenceRooms.make(host)
  const room = host.rooms(channel.name, mine?.room)
  const view = room.views.get(channel.codec) ?? viewOf(room, channel)
  room.views.set(channel.codec, view)
  return view
}

const follow: PresenceKeeper["follow"] = (host, channel, onMembers, onEnd) => {
  if (channel.fault !== undefined) {
    onEnd(channel.fault as never)
    return () => {}
  }
  const { room, shown } = open(host, channel)
  let last: unknown
  const onChange = () => {
    const members = shown()
    if (members === last) return
    last = members
    onMembers(members)
  }
  onChange()
  return room.watch({ onChange, onEnd: onEnd as (error: Over) => void })
}

const present: PresenceKeeper["present"] = (host, channel, state) =>
  Effect.gen(function* () {
    if (channel.fault !== undefined) return yield* Effect.fail(channel.fault as never)
    const first = yield* Effect.fromResult(toJson(channel as never, state as never))
    const joined = Effect.sync(() => {
      const { room } = open(host, channel)
      const stop = room.watch({ onChange: () => {}, onEnd: () => {} })
      const holder = room.hold()
      const leave = Effect.sync(() => {
        holder.leave()
        stop()
        // The client may end in the same turn, too.
        room.drive()
      })
      return { holder, leave }
    })
    const { holder, leave } = yield* Effect.acquireRelease(joined, ({ leave }) => leave)
    const show = (json: string) =>
      Effect.callback<void, never>((resume) => {
        holder.show(json).then(
          () => resume(Effect.void),
          (error) => resume(Effect.fail(error as never))
        )
      })
    // A scope that goes on after a failure has no member.
    yield* Effect.onError(show(first), () => leave)
    const own: Own<unknown, never> = {
      update: (state) =>
        Effect.flatMap(Effect.fromResult(toJson(channel as never, state as never)), show)
    }
    return own
  }) as ReturnType<PresenceKeeper["present"]>

const collect: PresenceKeeper["collect"] = (host, channel, state) => {
  let view: View | undefined
  let holder: Holder | undefined
  /** What is shown while there are subscribers. */
  let own = state
  /** A state that was not even sent. */
  let fault: unknown = channel.fault
  const listeners = new Set<() => void>()

  const update: Shown<unknown>["update"] = (next) => {
    own = next
    const shown = showOwn()
    refresh()
    // A caller may ignore it.
    shown.catch(() => {})
    return shown
  }
  const showOwn = async () => {
    fault = channel.fault
    if (fault !== undefined) throw fault
    if (own === undefined) {
      holder?.leave()
      return
    }
    const json = toJson(channel as never, own as never)
    if (Result.isFailure(json)) {
      fault = json.failure
      throw fault
    }
    await holder?.show(json.success)
  }

  const onServer: Shown<unknown> = Object.freeze({ ...none, update })
  let snapshot = onServer
  let base: Members<unknown> = none
  let shownFault: unknown
  const refresh = () => {
    const now = view?.shown() ?? base
    if (now === base && fault === shownFault) return
    base = now
    shownFault = fault
    const isBroken = channel.fault !== undefined
    snapshot = Object.freeze({
      ...now,
      ...(isBroken && { status: "error" as const }),
      error: now.error ?? fault,
      update
    })
    for (const listener of Array.from(listeners)) attempt(listener, report)
  }
  const onChange = onceTogether(host.due, refresh)
  const known = channel.fault === undefined ? host.rooms : undefined
  if (known !== undefined) view = open(host, channel)
  refresh()

  let leave = () => {}
  return {
    getSnapshot: () => snapshot,
    getServerSnapshot: () => onServer,
    update,
    subscribe: (onChanged) => {
      // Wrapped, so that one function registered twice is two registrations.
      const listener = () => onChanged()
      listeners.add(listener)
      if (listeners.size === 1 && channel.fault === undefined) {
        view = open(host, channel, view)
        const { room } = view
        const stop = room.watch({ onChange, onEnd: onChange })
        holder = room.hold()
        void showOwn().catch(() => {})
        refresh()
        leave = () => {
          holder?.leave()
          holder = undefined
          stop()
        }
      }
      return () => {
        if (!listeners.delete(listener) || listeners.size > 0) return
        leave()
        leave = () => {}
      }
    }
  }
}

export const presenceKeeper: PresenceKeeper = { follow, present, collect }
