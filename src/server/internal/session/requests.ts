/**
 * The requests of a session: subscribe, unsubscribe, publish. Each is answered exactly once.
 *
 * Requests are checked in the order of their arrival, including `authenticate` and `authorize`. After
 * that a request waits (for the source, for the database) in order per channel, and no channel waits
 * for another. If rights changed while a request waited, `authorize` decides again.
 */
import * as Effect from "effect/Effect"
import type { ClientFrame, FrameOf } from "../../../Frame.ts"
import { channelNameFault } from "../../../Protocol.ts"
import { Bucket } from "../limits/tokenBucket.ts"
import { beginInTurn } from "./subscribeBudget.ts"
import { Order } from "./requestOrder.ts"
import type { Port } from "./port.ts"
import { publishOnce } from "./publishing.ts"
import { Rights, type Wish } from "./rights.ts"
import { overLimit, type Refusal, refusal, refusalOf } from "../limits/refusalText.ts"
import { Subscriptions } from "./subscriptions.ts"

export type ChannelRequest = FrameOf<ClientFrame, "subscribe" | "unsubscribe" | "publish">

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
        const begin = this.#authorized(id, wish, (mark) =>
          this.#subscriptions.subscribe(frame, wish, mark)
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
        return match.channel.publish
          ? this.#authorized(id, { channel: name, match, action: "publish" }, (mark, wish) =>
              this.#publish(frame, at, wish, mark)
            )
          : refusal("publish/forbidden", "Clients do not publish to this channel.")
      }
    }
  }

  /** Asks `authorize`, then runs `then` with the mark of the decision. */
  #authorized(
    id: number,
    wish: Wish,
    then: (mark: number, wish: Wish) => Effect.Effect<void>
  ): Effect.Effect<void> {
    return Effect.suspend(() => {
      const { mark } = this.#rights
      return Effect.flatMap(this.#rights.decide(wish), (refused) => {
        if (refused === undefined) return this.#order.chain(wish.channel, id, then(mark, wish))
        if (wish.action === "subscribe") this.#subscriptions.unwant(wish.channel, id)
        return this.#refused(id, refused)
      })
    })
  }

  #publish(
    frame: FrameOf<ClientFrame, "publish">,
    at: number,
    wish: Wish,
    mark: number
  ): Effect.Effect<void> {
    const { id, within = Infinity } = frame
    const publish = () =>
      this.#port.stopped
        ? Effect.succeed(refusalOf(undefined))
        : publishOnce(this.#port.context, this.#port.principal.key, frame, wish.match, at + within)
    return Effect.map(this.#rights.hold(wish, mark, publish), (refused) => {
      if (refused === undefined) this.#port.answer(id, { type: "published", id })
      else this.#port.refuse(id, refused)
    })
  }

  #refused(id: number, refused: Refusal): Effect.Effect<void> {
    return Effect.sync(() => this.#port.refuse(id, refused))
  }
}
