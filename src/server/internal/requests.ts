/**
 * What a session asks for: subscribe, unsubscribe, publish. Each is answered exactly once.
 *
 * Requests are checked in the order they came, `authorize` included. What must then wait (for the
 * source, for the database) waits in order per channel, and no channel waits for another.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import * as Channel from "../../Channel.ts"
import type { ClientFrame, FrameOf, ServerFrame } from "../../Frame.ts"
import { channelNameFault, errorRetry } from "../../Protocol.ts"
import { hubKey } from "../Realtime.ts"
import type { Request } from "../ServerOptions.ts"
import { Bucket } from "./bucket.ts"
import type { Mailbox } from "./mailbox.ts"
import type { View } from "./openChannel.ts"
import { digestOf } from "./publishKeys.ts"
import type { Match } from "./registry.ts"
import {
  type Principal,
  type Refusal,
  refusal,
  refusalOf,
  type SessionContext
} from "./sessionContext.ts"

export type ChannelFrame = FrameOf<ClientFrame, "subscribe" | "unsubscribe" | "publish">

/** The session as its requests see it. */
export interface Owner {
  readonly mailbox: Mailbox
  readonly principal: () => Principal
  readonly send: (frame: ServerFrame) => void
  /** Runs on a fiber that ends with the session. */
  readonly fork: (effect: Effect.Effect<void>) => void
}

interface Subscription {
  readonly scope: Scope.Closeable
  readonly view: View
  readonly match: Match
}

export class Requests {
  readonly #owner: Owner
  readonly #context: SessionContext
  readonly #subscribes: Bucket
  readonly #publishes: Bucket
  /** Ids of requests that are not answered yet. */
  readonly #unanswered = new Set<number>()
  /** What the client asked for last: the request that holds, or will hold, each subscription. */
  readonly #wanted = new Map<string, number>()
  readonly #subscriptions = new Map<string, Subscription>()
  /** Work of each channel that must stay in order; present only while some of it waits. */
  readonly #chains = new Map<string, Array<Effect.Effect<void>>>()
  #inbox: Array<ChannelFrame> = []
  #working = false
  #ended = false

  constructor(owner: Owner, context: SessionContext) {
    const now = context.clock()
    this.#owner = owner
    this.#context = context
    this.#subscribes = new Bucket(context.limits.subscribes, now)
    this.#publishes = new Bucket(context.limits.publishes, now)
  }

  get unanswered(): number {
    return this.#unanswered.size
  }

  /** Notes a request; `false` when its id belongs to one that is not answered yet. */
  begin(id: number): boolean {
    if (this.#unanswered.has(id)) return false
    this.#unanswered.add(id)
    return true
  }

  /** Answers a request, for good or for bad. */
  answer(id: number, frame: ServerFrame): void {
    this.#unanswered.delete(id)
    this.#owner.send(frame)
  }

  refuse(id: number, { code, message, retryAfter }: Refusal): void {
    this.answer(id, {
      type: "error",
      id,
      code,
      message,
      retry: errorRetry[code],
      ...(retryAfter === undefined ? {} : { retryAfter })
    })
  }

  /** Handles a request after those before it. */
  push(frame: ChannelFrame): void {
    this.#inbox.push(frame)
    if (this.#working) return
    this.#working = true
    this.#owner.fork(
      Effect.gen({ self: this }, function* () {
        let next: ChannelFrame | undefined
        while ((next = this.#inbox.shift()) !== undefined) yield* this.#handle(next)
      }).pipe(
        Effect.ensuring(
          Effect.sync(() => {
            this.#working = false
          })
        )
      )
    )
  }

  /** Asks `authorize` about every subscription again; those it refuses now are ended. */
  get reauthorize(): Effect.Effect<void> {
    return Effect.forEach(
      [...this.#subscriptions],
      ([channel, { match }]) =>
        Effect.flatMap(this.#decide(channel, match, "subscribe"), (verdict) =>
          verdict === false ? this.#endSubscription(channel) : Effect.void
        ),
      { discard: true }
    )
  }

  /** Gives everything back. */
  get end(): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.#ended = true
      this.#inbox = []
      this.#chains.clear()
      const held = [...this.#subscriptions.values()]
      for (const { view } of held) view.sinks.delete(this.#owner.mailbox)
      this.#subscriptions.clear()
      return Effect.forEach(held, ({ scope }) => Scope.close(scope, Exit.void), { discard: true })
    })
  }

  #handle(frame: ChannelFrame): Effect.Effect<void> {
    const { channel: name, id } = frame
    const fault = channelNameFault(name)
    if (fault !== undefined) {
      return this.#refused(id, refusal("channel/invalid-name", `The channel name ${fault}.`))
    }
    const match = this.#context.registry.match(name)
    if (match === undefined) {
      return this.#refused(id, refusal("channel/unknown", "There is no such channel."))
    }
    switch (frame.type) {
      case "unsubscribe":
        this.#wanted.delete(name)
        return this.#inOrder(name, this.#unsubscribe(id, name))
      case "subscribe": {
        const refused = this.#checkSubscribe(name)
        if (refused !== undefined) return this.#refused(id, refused)
        this.#wanted.set(name, id)
        return this.#authorized(frame, match, "channel/forbidden", this.#subscribe(frame, match))
      }
      case "publish": {
        const wait = this.#publishes.take(this.#context.limits.publishes, this.#context.clock())
        if (wait > 0) return this.#refused(id, refusal("rate/limited", "Publish slower.", wait))
        return match.channel.publish
          ? this.#authorized(frame, match, "publish/forbidden", this.#publish(frame, match))
          : this.#refused(
              id,
              refusal("publish/forbidden", "Clients do not publish to this channel.")
            )
      }
    }
  }

  #checkSubscribe(name: string): Refusal | undefined {
    const { subscribes, subscriptions } = this.#context.limits
    const wait = this.#subscribes.take(subscribes, this.#context.clock())
    if (wait > 0) return refusal("rate/limited", "Subscribe slower.", wait)
    if (this.#wanted.size >= subscriptions) {
      const reason = `A session has at most ${subscriptions} subscriptions. Leave one first.`
      return refusal("subscribe/limit", reason)
    }
    return this.#wanted.has(name)
      ? refusal("subscribe/duplicate", "This session is subscribed to the channel already.")
      : undefined
  }

  /** `undefined` when no decision could be had. */
  #decide(
    channel: string,
    { definition, param }: Match,
    action: "subscribe" | "publish"
  ): Effect.Effect<boolean | undefined> {
    const { identity } = this.#owner.principal()
    const request: Request<unknown> = { identity, channel, definition, params: param, action }
    return Effect.suspend(() => this.#context.authorize(request)).pipe(
      Effect.timeoutOrElse({
        duration: this.#context.limits.authorize,
        orElse: () => Effect.die(new Error("authorize took too long"))
      }),
      Effect.catchCause((cause) =>
        Cause.hasInterruptsOnly(cause)
          ? Effect.interrupt
          : Effect.as(Effect.logError("authorize failed", cause), undefined)
      )
    )
  }

  #authorized(
    { channel, id, type }: FrameOf<ClientFrame, "subscribe" | "publish">,
    match: Match,
    code: "channel/forbidden" | "publish/forbidden",
    then: Effect.Effect<void>
  ): Effect.Effect<void> {
    return Effect.flatMap(this.#decide(channel, match, type), (verdict) => {
      if (verdict === true) return this.#inOrder(channel, then)
      if (type === "subscribe") this.#unwant(channel, id)
      return this.#refused(
        id,
        verdict === undefined
          ? refusal("server/internal", "The server could not decide. Try again later.")
          : refusal(code, `Not allowed to ${type} here.`)
      )
    })
  }

  /** Queues work behind what the same channel still waits for. */
  #inOrder(name: string, work: Effect.Effect<void>): Effect.Effect<void> {
    return Effect.sync(() => {
      const chain = this.#chains.get(name)
      if (chain !== undefined) {
        chain.push(work)
        return
      }
      const started = [work]
      this.#chains.set(name, started)
      this.#owner.fork(
        Effect.gen({ self: this }, function* () {
          let next: Effect.Effect<void> | undefined
          while ((next = started.shift()) !== undefined) yield* next
        }).pipe(Effect.ensuring(Effect.sync(() => this.#chains.delete(name))))
      )
    })
  }

  #subscribe(
    { channel, cursor, id }: FrameOf<ClientFrame, "subscribe">,
    match: Match
  ): Effect.Effect<void> {
    return Effect.uninterruptibleMask((restore) =>
      Effect.gen({ self: this }, function* () {
        const scope = yield* Scope.make()
        const opened = yield* Effect.exit(restore(this.#open(match.channel, scope)))
        if (Exit.isSuccess(opened) && !this.#ended) {
          const { now, view } = opened.value
          this.#attach(id, { match, scope, view }, cursor, now)
          return
        }
        if (Exit.isFailure(opened)) {
          this.#unwant(channel, id)
          this.refuse(id, refusalOf(Cause.squash(opened.cause)))
        }
        yield* Scope.close(scope, Exit.void)
      })
    )
  }

  /** The channel and the time, once the source listens. */
  #open(channel: Channel.Any, scope: Scope.Closeable) {
    return this.#context.realtime[hubKey].open(channel).pipe(
      Scope.provide(scope),
      Effect.timeoutOrElse({
        duration: this.#context.limits.sourceWait,
        orElse: () => Effect.fail({ _tag: "SourceError" } as const)
      }),
      Effect.flatMap((view) => Effect.map(Clock.currentTimeMillis, (now) => ({ view, now })))
    )
  }

  /** In one step: the next batch must find the sink in place. */
  #attach(id: number, subscription: Subscription, from: string | undefined, now: number): void {
    const { view } = subscription
    const channel = view.channel.name
    const { cursor, replay, state } = view.position(from, now)
    this.#subscriptions.set(channel, subscription)
    this.answer(id, { type: "subscribed", id, channel, state, cursor })
    for (const batch of replay) this.#owner.mailbox.offer(batch)
    view.sinks.add(this.#owner.mailbox)
  }

  #unsubscribe(id: number, channel: string): Effect.Effect<void> {
    return Effect.suspend(() => {
      const left = this.#leave(channel)
      this.answer(id, { type: "unsubscribed", id, channel })
      return left
    })
  }

  #endSubscription(channel: string): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.#wanted.delete(channel)
      const left = this.#leave(channel)
      this.#owner.send({
        type: "ended",
        channel,
        code: "channel/forbidden",
        message: "Not allowed to subscribe here any more.",
        retry: errorRetry["channel/forbidden"]
      })
      return left
    })
  }

  /** Nothing of the channel is written after this; the rest is given back by the effect. */
  #leave(channel: string): Effect.Effect<void> {
    const subscription = this.#subscriptions.get(channel)
    if (subscription === undefined) return Effect.void
    this.#subscriptions.delete(channel)
    subscription.view.sinks.delete(this.#owner.mailbox)
    return Scope.close(subscription.scope, Exit.void)
  }

  /** A later request for the channel stays. */
  #unwant(channel: string, id: number): void {
    if (this.#wanted.get(channel) === id) this.#wanted.delete(channel)
  }

  #publish(
    { channel: name, data, id, key }: FrameOf<ClientFrame, "publish">,
    { channel }: Match
  ): Effect.Effect<void> {
    const payload = channel.decode(data)
    if (Result.isFailure(payload)) return this.#refused(id, refusalOf(payload.failure))
    // The registry gives the channel without its payload type; `decode` has just established it.
    const typed = channel as Channel.Channel<unknown>
    const json = Channel.toJson(typed, payload.success)
    if (Result.isFailure(json)) return this.#refused(id, refusalOf(json.failure))
    return Effect.gen({ self: this }, function* () {
      const { clock, publishKeys, realtime } = this.#context
      const identity = this.#owner.principal().key
      const digest = digestOf(json.success)
      let outcome = publishKeys.find(identity, name, key, digest, clock())
      if (outcome === "conflict") {
        const reason = "The key was used with other data."
        return this.refuse(id, refusal("publish/invalid", reason))
      }
      if (outcome === undefined) {
        outcome = yield* Deferred.make<Refusal | undefined>()
        publishKeys.remember(identity, name, key, digest, clock(), outcome)
        const published = yield* Effect.exit(realtime.publish(typed, payload.success))
        if (Exit.isFailure(published)) publishKeys.forget(identity, name, key)
        const refused = Exit.isFailure(published)
          ? refusalOf(Cause.squash(published.cause))
          : undefined
        yield* Deferred.succeed(outcome, refused)
      }
      const refused = yield* Deferred.await(outcome)
      if (refused === undefined) this.answer(id, { type: "published", id })
      else this.refuse(id, refused)
      return undefined
    })
  }

  #refused(id: number, refused: Refusal): Effect.Effect<void> {
    return Effect.sync(() => this.refuse(id, refused))
  }
}
