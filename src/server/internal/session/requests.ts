/**
 * The requests of a session: subscribe, state, history, unsubscribe, publish, present, absent. Each is answered
 * exactly once.
 *
 * Requests are checked in the order of their arrival, including `authenticate` and `authorize`. After
 * that a request waits (for the source, for the database) in order per channel, and no channel waits
 * for another. If rights changed while a request waited, `authorize` decides again. A publish that a
 * rule decides about waits in order per channel first, because its rule must not run twice for one key.
 */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type { ClientFrame, FrameOf } from "../../../Frame.ts"
import { channelNameFault } from "../../../Protocol.ts"
import { Bucket } from "../limits/tokenBucket.ts"
import { asking, one } from "../eventLoopTurns.ts"
import { beginInTurn } from "./subscribeBudget.ts"
import { Order } from "./requestOrder.ts"
import type { Port } from "./port.ts"
import {
  outcomeBefore,
  type PublishFrame,
  publishOnce,
  publishVolatile,
  readPublish
} from "./publishing.ts"
import { withoutMembers } from "./presenting.ts"
import { type Grant, isRefusal, Rights, type Wish } from "./rights.ts"
import { overLimit, type Refusal, refusal, refusalOf } from "../limits/refusalText.ts"
import { Subscriptions } from "./subscriptions.ts"
import { subscriptionKey, whereRefused } from "./where.ts"

export type ChannelRequest = FrameOf<
  ClientFrame,
  "subscribe" | "state" | "history" | "unsubscribe" | "publish" | "present" | "absent"
>

const keyless = refusal(
  "frame/malformed",
  "The frame is not valid: a publish on this channel needs a key."
)

/** The refusal of a publish that must wait. */
const tooFast = (limit: "publishRate" | "volatileRate", wait: number): Refusal | undefined =>
  wait > 0
    ? overLimit(limit, "rate/limited", "The client publishes too often: slow down.", wait)
    : undefined

export class Requests {
  readonly #port: Port
  readonly #rights: Rights
  readonly #order: Order
  readonly #subscriptions: Subscriptions
  #publishes: Bucket | undefined
  #volatiles: Bucket | undefined

  constructor(port: Port) {
    this.#port = port
    this.#rights = new Rights(port)
    this.#order = new Order(port)
    this.#subscriptions = new Subscriptions(port, this.#rights)
  }

  /**
   * Handles a request that the session received `at` this time, after those before it. A request that is
   * rejected at once needs no fiber.
   */
  push(frame: ChannelRequest, at: number): void {
    const { id } = frame
    if (this.#port.stopped) return
    if (this.#order.isBusy) {
      return this.#order.enqueue(
        id,
        Effect.suspend(() => this.#handle(frame, at))
      )
    }
    if (this.#port.hasExpired()) return this.#port.close("tokenExpired")
    try {
      const decided = this.#decide(frame, at)
      if (Effect.isEffect(decided)) this.#order.enqueue(id, decided)
      else this.#port.refuse(id, decided)
    } catch (defect) {
      this.#order.enqueue(id, Effect.die(defect))
    }
  }

  /** Does the work of a request after those before it. */
  enqueue(id: number, work: Effect.Effect<void>): void {
    this.#order.enqueue(id, work)
  }

  /**
   * Asks `authorize` about every subscription again, and ends those that it rejects. If `authorize`
   * fails, they end too, and the client may retry.
   */
  get reauthorize(): Effect.Effect<void> {
    return this.#subscriptions.reauthorize
  }

  /** The number of subscriptions. */
  get subscriptions(): number {
    return this.#subscriptions.size
  }

  /** Lets channels that are behind catch up: the socket takes bytes again. */
  readOn(): void {
    this.#subscriptions.readOn()
  }

  /** Ends all requests. No frame is written after the first step; later steps release the rest. */
  get end(): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.#order.clear()
      return this.#subscriptions.end
    })
  }

  #handle(frame: ChannelRequest, at: number): Effect.Effect<void> {
    const decided = this.#decide(frame, at)
    return Effect.isEffect(decided) ? decided : this.#refused(frame.id, decided)
  }

  /** The refusal of a request, or its work. */
  #decide(frame: ChannelRequest, at: number): Refusal | Effect.Effect<void> {
    const { channel: name, id } = frame
    const { context } = this.#port
    const fault = channelNameFault(name)
    if (fault !== undefined) return refusal("channel/invalid-name", `The channel name ${fault}.`)
    const match = context.registry.match(name)
    if (match === undefined) return refusal("channel/unknown")
    switch (frame.type) {
      case "unsubscribe":
        return this.#order.chain(name, id, this.#subscriptions.unsubscribe(id, name, frame.view))
      case "subscribe": {
        const key = subscriptionKey(name, frame.where)
        const refused = this.#subscriptions.want(key, match, id)
        if (refused !== undefined) return refused
        const wish: Wish = { channel: name, match, action: "subscribe" }
        const refuse = (refused: Refusal) => {
          this.#subscriptions.unwant(key, id)
          return this.#refused(id, refused)
        }
        const begin = Effect.flatMap(this.#rights.decide(wish), (decision) => {
          const refused = isRefusal(decision) ? decision : whereRefused(match, frame.where)
          return isRefusal(decision) || refused !== undefined
            ? refuse(refused!)
            : this.#order.chain(name, id, this.#subscriptions.subscribe(frame, wish, decision))
        })
        return beginInTurn(context, match, begin, refuse)
      }
      case "state":
        return this.#order.chain(
          name,
          id,
          Effect.suspend(() => {
            const refused = this.#subscriptions.state(frame, match)
            return refused === undefined ? Effect.void : this.#refused(id, refused)
          })
        )
      case "history": {
        const { histories } = this.#subscriptions
        const early = histories.want()
        if (early !== undefined) return early
        const wish: Wish = { channel: name, match, action: "subscribe" }
        return Effect.flatMap(asking.take(one), () =>
          Effect.flatMap(this.#rights.decide(wish), (decision) =>
            isRefusal(decision)
              ? this.#refused(id, decision)
              : this.#order.chain(name, id, histories.answer(frame, wish, decision))
          )
        )
      }
      case "present":
      case "absent": {
        const presenting = this.#subscriptions.presenting
        const work =
          frame.type === "present" ? presenting.present(frame, match) : presenting.absent(frame)
        return withoutMembers(match) ?? this.#order.chain(name, id, work)
      }
      case "publish": {
        const { remembers } = match.delivery
        if (remembers && frame.key === undefined) return keyless
        const refused = remembers ? this.#tooMany : this.#tooManyVolatile
        if (refused !== undefined) return refused
        if (!match.channel.publish) {
          return refusal("publish/forbidden", "Clients do not publish to this channel.")
        }
        const due = at + (frame.within ?? Infinity)
        const wish: Wish = { channel: name, match, action: "publish" }
        if (context.publishRule !== undefined) {
          return this.#order.chain(name, id, this.#publishByRule(frame, due, wish))
        }
        return Effect.flatMap(this.#rights.decide(wish), (decision) =>
          isRefusal(decision)
            ? this.#refused(id, decision)
            : this.#order.chain(name, id, this.#publish(frame, due, wish, decision))
        )
      }
    }
  }

  /** The refusal of a publish beyond `publishRate`. */
  get #tooMany(): Refusal | undefined {
    const { clock, limits } = this.#port.context
    const now = clock()
    this.#publishes ??= new Bucket(limits.publishRate, now)
    return tooFast("publishRate", this.#publishes.take(limits.publishRate, now))
  }

  /** The refusal of a volatile publish beyond `volatileRate`. */
  get #tooManyVolatile(): Refusal | undefined {
    const { clock, limits } = this.#port.context
    const now = clock()
    this.#volatiles ??= new Bucket(limits.volatileRate, now)
    return tooFast("volatileRate", this.#volatiles.take(limits.volatileRate, now))
  }

  /** Asks the rule for publishing, unless the client repeats a publish, and publishes what it returns. */
  #publishByRule(frame: PublishFrame, due: number, wish: Wish): Effect.Effect<void> {
    return Effect.suspend(() => {
      const { context, principal, stopped } = this.#port
      const { channel, id, key } = frame
      // It may have waited for long.
      if (stopped) return Effect.void
      if (this.#port.hasExpired()) return Effect.sync(() => this.#port.close("tokenExpired"))
      const sent = readPublish(frame, wish.match)
      if (Result.isFailure(sent)) return this.#refused(id, sent.failure)
      const ruled = { ...wish, sent: sent.success }
      const known =
        key === undefined
          ? Effect.undefined
          : outcomeBefore(context, principal.key, channel, key, wish.match, sent.success, due)
      return Effect.flatMap(known, (before) =>
        before === undefined
          ? Effect.flatMap(this.#rights.decide(ruled), (decision) =>
              isRefusal(decision)
                ? this.#refused(id, decision)
                : this.#publish(frame, due, ruled, decision)
            )
          : this.#settled(id, before.refused)
      )
    })
  }

  #publish(frame: PublishFrame, due: number, wish: Wish, grant: Grant): Effect.Effect<void> {
    const { match, sent } = wish
    const { id, key } = frame
    const publish = ({ json }: Grant) => {
      const { context, principal, session, stopped } = this.#port
      if (stopped) return Effect.succeed(refusalOf(undefined))
      if (key === undefined || !match.delivery.remembers) {
        return publishVolatile(context, session, frame, match, due, json)
      }
      const ruled = json === undefined || sent === undefined ? undefined : { sent, json }
      return publishOnce(context, principal.key, frame, key, match, due, ruled)
    }
    return Effect.flatMap(this.#rights.hold(wish, grant, publish), (refused) =>
      this.#settled(id, refused)
    )
  }

  /** Answers a publish; `refused` is `undefined` if it was sent. */
  #settled(id: number, refused: Refusal | undefined): Effect.Effect<void> {
    return Effect.sync(() => {
      if (refused === undefined) this.#port.answer(id, { type: "published", id })
      else this.#port.refuse(id, refused)
    })
  }

  #refused(id: number, refused: Refusal): Effect.Effect<void> {
    return Effect.sync(() => this.#port.refuse(id, refused))
  }
}
