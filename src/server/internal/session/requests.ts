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
import { publishOnce, publishVolatile } from "./publishing.ts"
import { Rights, type Wish } from "./rights.ts"
import { overLimit, type Refusal, refusal, refusalOf } from "../limits/refusalText.ts"
import { Subscriptions } from "./subscriptions.ts"

export type ChannelRequest = FrameOf<ClientFrame, "subscribe" | "unsubscribe" | "publish">

/** How long an answer of `authorize` about volatile publishes counts, in milliseconds. */
const allowedFor = 1000

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
  /** The last answer of `authorize` about volatile publishes, by channel, and until when it counts. */
  #allowed: Map<string, { readonly mark: number; readonly until: number }> | undefined

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
        const { remembers } = match.delivery
        if (remembers && frame.key === undefined) return keyless
        const refused = remembers ? this.#tooMany : this.#tooManyVolatile
        if (refused !== undefined) return refused
        if (!match.channel.publish) {
          return refusal("publish/forbidden", "Clients do not publish to this channel.")
        }
        const wish: Wish = { channel: name, match, action: "publish" }
        return remembers
          ? this.#authorized(id, wish, (mark) => this.#publish(frame, at, wish, mark))
          : this.#volatile(frame, at, wish)
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

  /**
   * A volatile publish. `authorize` is asked at most once in `allowedFor` about each channel: asked about
   * each of 60 a second, few sessions would use up `authorizeRate`.
   */
  #volatile(frame: FrameOf<ClientFrame, "publish">, at: number, wish: Wish): Effect.Effect<void> {
    const { channel, id } = frame
    return Effect.suspend(() => {
      const { clock, limits } = this.#port.context
      const { mark } = this.#rights
      const allowed = (this.#allowed ??= new Map())
      const known = allowed.get(channel)
      if (known?.mark === mark && clock() < known.until) {
        return this.#order.chain(channel, id, this.#publish(frame, at, wish, mark))
      }
      return this.#authorized(id, wish, (mark) => {
        allowed.delete(channel)
        for (const oldest of allowed.keys()) {
          if (allowed.size < limits.maxSubscriptions) break
          allowed.delete(oldest)
        }
        allowed.set(channel, { mark, until: clock() + allowedFor })
        return this.#publish(frame, at, wish, mark)
      })
    })
  }

  /** Asks `authorize`, then runs `then` with the mark of the decision. */
  #authorized(
    id: number,
    wish: Wish,
    then: (mark: number) => Effect.Effect<void>
  ): Effect.Effect<void> {
    return Effect.suspend(() => {
      const { mark } = this.#rights
      return Effect.flatMap(this.#rights.decide(wish), (refused) => {
        if (refused === undefined) return this.#order.chain(wish.channel, id, then(mark))
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
    const { id, key, within = Infinity } = frame
    const { match } = wish
    const due = at + within
    const publish = () => {
      const { context, principal, session, stopped } = this.#port
      if (stopped) return Effect.succeed(refusalOf(undefined))
      return match.delivery.remembers && key !== undefined
        ? publishOnce(context, principal.key, frame, key, match, due)
        : publishVolatile(context, session, frame, match, due)
    }
    return Effect.map(this.#rights.hold(wish, mark, publish), (refused) => {
      if (refused === undefined) this.#port.answer(id, { type: "published", id })
      else this.#port.refuse(id, refused)
    })
  }

  #refused(id: number, refused: Refusal): Effect.Effect<void> {
    return Effect.sync(() => this.#port.refuse(id, refused))
  }
}
