/**
 * Answers `present` and `absent`: a client that is subscribed to a presence channel becomes a member, changes
 * its state, or leaves.
 */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type { ClientFrame, FrameOf } from "../../../Frame.ts"
import type { Port } from "./port.ts"
import { PresenceSubscriber } from "./presenceSubscriber.ts"
import { readSent, type Sent } from "./publishing.ts"
import type { Match } from "./registry.ts"
import { type Grant, isRefusal, type Rights, type Wish } from "./rights.ts"
import type { Subscription } from "./subscription.ts"
import { type Refusal, refusal, refusalOf } from "../limits/refusalText.ts"

/** The largest state of a member, in bytes of UTF-8. */
export const maxMemberBytes = 2048

const memberless = refusal(
  "frame/malformed",
  "The frame is not valid: the channel is no presence channel, so it has no members."
)

const unsubscribed = refusal(
  "channel/unknown",
  "The session has no subscription of this channel: subscribe before present."
)

const tooLarge = refusal(
  "publish/too-large",
  `The state of a member has at most ${maxMemberBytes} bytes of JSON: send less, such as the id of a row.`
)

/** Finds a subscription that the session holds. */
type Find = (channel: string) => Subscription | undefined

const subscriberOf = (subscription: Subscription | undefined) =>
  subscription?.tenure?.subscriber instanceof PresenceSubscriber
    ? subscription.tenure.subscriber
    : undefined

/** The refusal of a request about members on another channel. */
export const withoutMembers = ({ delivery }: Match): Refusal | undefined =>
  delivery.presence === undefined ? memberless : undefined

export class Presenting {
  readonly #port: Port
  readonly #rights: Rights
  readonly #find: Find

  constructor(port: Port, rights: Rights, find: Find) {
    this.#port = port
    this.#rights = rights
    this.#find = find
  }

  /** Joins or changes the own state. */
  present(frame: FrameOf<ClientFrame, "present">, match: Match): Effect.Effect<void> {
    const { channel, id, member } = frame
    return Effect.suspend(() => {
      if (this.#port.stopped) return Effect.void
      if (subscriberOf(this.#find(channel)) === undefined) return this.#refused(id, unsubscribed)
      const wish: Wish = { channel, match, action: "present" }
      // A rule receives what the client sent; `authorize` decides before it is read.
      if (this.#port.context.publishRule !== undefined) {
        const sent = readSent(match, frame, "member", member)
        if (Result.isFailure(sent)) return this.#refused(id, sent.failure)
        return this.#show(id, { ...wish, sent: sent.success }, sent.success)
      }
      return this.#show(id, wish, () => readSent(match, frame, "member", member))
    })
  }

  /** Leaves, and stays subscribed. Also the answer where the client was no member. */
  absent({ channel, id }: FrameOf<ClientFrame, "absent">): Effect.Effect<void> {
    return Effect.sync(() => {
      subscriberOf(this.#find(channel))?.absent()
      this.#port.answer(id, { type: "absent", id })
    })
  }

  /**
   * Asks again whether the client may be seen on a channel that it may still subscribe to. A member that may
   * not leaves.
   */
  again(subscription: Subscription, deadline: number): Effect.Effect<void> {
    const subscriber = subscriberOf(subscription)
    const sent = subscriber?.sent
    if (subscriber === undefined || sent === undefined) return Effect.void
    const { channel, match } = subscription.wish
    const ruled = this.#port.context.publishRule === undefined ? {} : { sent }
    const wish: Wish = { channel, match, action: "present", ...ruled }
    return Effect.map(this.#rights.decide(wish, deadline), (decision) => {
      // It may have left, or shown another state, meanwhile.
      if (subscriber.sent !== sent) return
      if (isRefusal(decision) || tooBig(decision.json ?? sent.json)) subscriber.absent()
      else subscriber.present(sent, decision.json ?? sent.json)
    })
  }

  #show(
    id: number,
    wish: Wish,
    sent: Sent | (() => Result.Result<Sent, Refusal>)
  ): Effect.Effect<void> {
    const begin = ({ json }: Grant) =>
      Effect.sync((): Refusal | undefined => {
        if (this.#port.stopped) return refusalOf(undefined)
        const read = typeof sent === "function" ? sent() : Result.succeed(sent)
        if (Result.isFailure(read)) return read.failure
        const state = json ?? read.success.json
        if (tooBig(state)) return tooLarge
        const member = subscriberOf(this.#find(wish.channel))?.present(read.success, state)
        if (member === undefined) return unsubscribed
        this.#port.answer(id, { type: "present", id, member })
        return undefined
      })
    return Effect.flatMap(this.#rights.decide(wish), (decision) =>
      isRefusal(decision)
        ? this.#refused(id, decision)
        : Effect.flatMap(this.#rights.hold(wish, decision, begin), (refused) =>
            refused === undefined ? Effect.void : this.#refused(id, refused)
          )
    )
  }

  #refused(id: number, refused: Refusal): Effect.Effect<void> {
    return Effect.sync(() => this.#port.refuse(id, refused))
  }
}

const tooBig = (json: string): boolean => Buffer.byteLength(json) > maxMemberBytes
