/**
 * The members of a presence channel for programs: as a Stream, and as one of them.
 *
 * In: a room. Out: the members with their states as the channel decodes them, the newest list only. A state that
 * does not match the Schema is left out.
 */
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import { randomBytes } from "node:crypto"
import type * as Channel from "../../../Channel.ts"
import { toJson } from "../../../ChannelBase.ts"
import {
  type InvalidChannelName,
  type InvalidPayload,
  PayloadTooLarge
} from "../../../RealtimeError.ts"
import type { BusState } from "../../NodeBus.ts"
import { maxMemberBytes, type Presence } from "../presence/presence.ts"
import type { Room, Watcher } from "../presence/room.ts"
import type { Hub } from "./hub.ts"

/**
 * A member of a presence channel.
 *
 * @category models
 * @since 0.1.0
 */
export interface Member<out A> {
  /** Names the member while it is there: the same text on every node and in every client. */
  readonly member: string
  readonly state: A
}

/**
 * The members of a presence channel.
 *
 * @category models
 * @since 0.1.0
 */
export interface FollowedMembers<out A> {
  /**
   * A new list when a member has changed; a member that has not changed is the same object as before. Empty
   * while there are more than `maxMembers`.
   */
  readonly members: ReadonlyArray<Member<A>>
  /** How many members there are. */
  readonly count: number
  /** `stale`: the bus between the nodes is down, so members of other nodes may be missing or be others. */
  readonly status: "live" | "stale"
}

/**
 * A program that is a member of a presence channel.
 *
 * @category models
 * @since 0.1.0
 */
export interface PresentMember<in A> {
  /** Names the member, as in the list. */
  readonly member: string
  /** Shows another state. */
  readonly update: (state: A) => Effect.Effect<void, InvalidPayload | PayloadTooLarge>
}

class MemberList<A> implements Watcher {
  readonly member = undefined
  readonly #channel: Channel.Presence<A>
  readonly #room: Room
  readonly #out: Queue.Queue<FollowedMembers<A>>
  #known = new Map<string, { readonly text: string; readonly member: Member<A> }>()
  #status: FollowedMembers<A>["status"] = "live"
  #begun = false

  constructor(channel: Channel.Presence<A>, room: Room, out: Queue.Queue<FollowedMembers<A>>) {
    this.#channel = channel
    this.#room = room
    this.#out = out
  }

  /** Takes the state of the bus between the nodes. */
  follow(state: BusState): void {
    const status = state === "up" ? "live" : "stale"
    if (status === this.#status) return
    this.#status = status
    if (this.#begun) this.offer()
  }

  offer(): void {
    this.#begun = true
    const { count, members } = this.#room.list
    const known = new Map<string, { readonly text: string; readonly member: Member<A> }>()
    for (const [member, text] of members) {
      const before = this.#known.get(member)
      if (before?.text === text) {
        known.set(member, before)
        continue
      }
      const state = this.#channel.decode(JSON.parse(text))
      if (Result.isFailure(state)) continue
      known.set(member, { text, member: { member, state: state.success } })
    }
    this.#known = known
    const list = { members: [...known.values()].map(({ member }) => member), count }
    Effect.runSync(Queue.offer(this.#out, { ...list, status: this.#status }))
  }
}

/** The delivery of a presence channel always has its members. */
const presenceOf = (hub: Pick<Hub, "deliveryOf">, channel: Channel.Any): Presence =>
  hub.deliveryOf(channel).presence!

export const membersOf = <A>(
  hub: Pick<Hub, "deliveryOf">,
  channel: Channel.Presence<A>
): Stream.Stream<FollowedMembers<A>, InvalidChannelName> =>
  Stream.unwrap(
    Effect.gen(function* () {
      if (channel.fault !== undefined) return yield* channel.fault
      const presence = presenceOf(hub, channel)
      yield* presence.ready
      const out = yield* Queue.sliding<FollowedMembers<A>>(1)
      const { link } = presence
      const watch = (state: BusState) => {
        // In the step that watches it, because a room that nothing watches may be forgotten.
        const room = presence.room(channel.name)
        const list = new MemberList(channel, room, out)
        list.follow(state)
        room.watch(list)
        return { list, room }
      }
      const { list } = yield* Effect.acquireRelease(
        Effect.map(
          link === undefined ? Effect.succeed<BusState>("up") : SubscriptionRef.get(link),
          watch
        ),
        ({ list, room }) =>
          Effect.sync(() => {
            room.unwatch(list)
            presence.leaveRoom(room)
          })
      )
      if (link !== undefined) {
        yield* SubscriptionRef.changes(link).pipe(
          Stream.runForEach((state) => Effect.sync(() => list.follow(state))),
          Effect.forkScoped
        )
      }
      return Stream.fromQueue(out)
    })
  )

export const presentAs = <A>(
  hub: Pick<Hub, "deliveryOf">,
  channel: Channel.Presence<A>,
  state: A
): Effect.Effect<
  PresentMember<A>,
  InvalidChannelName | InvalidPayload | PayloadTooLarge,
  Scope.Scope
> =>
  Effect.gen(function* () {
    if (channel.fault !== undefined) return yield* channel.fault
    const { counts, name } = channel
    const first = yield* textOf(channel, state)
    const presence = presenceOf(hub, channel)
    yield* presence.ready
    const session = randomBytes(15).toString("base64url")
    const seat = yield* Effect.acquireRelease(
      Effect.sync(() => presence.sit(name, { session, identity: undefined, counts }, first)),
      (seat) => Effect.sync(() => presence.leave(seat))
    )
    return {
      member: seat.seat.member,
      update: (state: A) => Effect.map(textOf(channel, state), (text) => presence.show(seat, text))
    }
  })

const textOf = <A>(
  channel: Channel.Presence<A>,
  state: A
): Effect.Effect<string, InvalidPayload | PayloadTooLarge> =>
  Effect.flatMap(Effect.fromResult(toJson(channel, state)), (text) => {
    const bytes = Buffer.byteLength(text)
    return bytes > maxMemberBytes
      ? Effect.fail(new PayloadTooLarge({ channel: channel.name, bytes, limit: maxMemberBytes }))
      : Effect.succeed(text)
  })
