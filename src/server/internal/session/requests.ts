/**
 * The requests of a session: subscribe, unsubscribe, publish. Each is answered exactly once.
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
import { beginInTurn } from "./subscribeBudget.ts"
import { Order } from "./requestOrder.ts"
import type { Port } from "./port.ts"
import { outcomeBefore, publishOnce, readPublish } from "./publishing.ts"
import { type Grant, isRefusal, Rights, type Wish } from "./rights.ts"
import { overLimit, type Refusal, refusal, refusalOf } from "../limits/refusalText.ts"
import { Subscriptions } from "./subscriptions.ts"

export type ChannelRequest = FrameOf<ClientFrame, "subscribe" | "unsubscribe" | "publish">

type Publish = FrameOf<ClientFrame, "publish">

export class Requests {
  readonly #port: Port
  readonly #rights: Rights
  readonly #order: Order
  readonly #subscriptions: Subscriptions
  #publishes: Bucket | undefined

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
        return this.#order.chain(name, id, this.#subscriptions.unsubscribe(id, name))
      case "subscribe": {
        const refused = this.#subscriptions.want(name, match, id)
        if (refused !== undefined) return refused
        const wish: Wish = { channel: name, match, action: "subscribe" }
        const begin = this.#authorized(id, wish, (grant) =>
          this.#subscriptions.subscribe(frame, wish, grant)
        )
        return beginInTurn(context, match, begin, (refused) => {
          this.#subscriptions.unwant(name, id)
          return this.#refused(id, refused)
        })
      }
      case "publish": {
        const { publishRate } = context.limits
        const now = context.clock()
        this.#publishes ??= new Bucket(publishRate, now)
        const wait = this.#publishes.take(publishRate, now)
        if (wait > 0) {
          const reason = "The client publishes too often: slow down."
          return overLimit("publishRate", "rate/limited", reason, wait)
        }
        if (!match.channel.publish) {
          return refusal("publish/forbidden", "Clients do not publish to this channel.")
        }
        const due = at + (frame.within ?? Infinity)
        const wish: Wish = { channel: name, match, action: "publish" }
        return context.publishRule === undefined
          ? this.#authorized(id, wish, (grant) => this.#publish(frame, due, wish, grant))
          : this.#order.chain(name, id, this.#publishByRule(frame, due, wish))
      }
    }
  }

  /** Asks `authorize` or the rule, then runs `then` with what it allows. */
  #authorized(
    id: number,
    wish: Wish,
    then: (grant: Grant) => Effect.Effect<void>
  ): Effect.Effect<void> {
    return Effect.flatMap(this.#rights.decide(wish), (decision) => {
      if (!isRefusal(decision)) return this.#order.chain(wish.channel, id, then(decision))
      if (wish.action === "subscribe") this.#subscriptions.unwant(wish.channel, id)
      return this.#refused(id, decision)
    })
  }

  /** Asks the rule for publishing, unless the client repeats a publish, and publishes what it returns. */
  #publishByRule(frame: Publish, due: number, wish: Wish): Effect.Effect<void> {
    return Effect.suspend(() => {
      const { context, principal } = this.#port
      const { id } = frame
      const sent = readPublish(frame, wish.match)
      if (Result.isFailure(sent)) return this.#refused(id, sent.failure)
      const ruled = { ...wish, sent: sent.success }
      return Effect.flatMap(
        outcomeBefore(context, principal.key, frame, wish.match, sent.success, due),
        (before) =>
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

  #publish(frame: Publish, due: number, wish: Wish, grant: Grant): Effect.Effect<void> {
    const publish = ({ json }: Grant) =>
      this.#port.stopped
        ? Effect.succeed(refusalOf(undefined))
        : publishOnce(
            this.#port.context,
            this.#port.principal.key,
            frame,
            wish.match,
            due,
            json === undefined || wish.sent === undefined ? undefined : { sent: wish.sent, json }
          )
    return Effect.flatMap(this.#rights.hold(wish, grant, publish), (refused) =>
      this.#settled(frame.id, refused)
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
