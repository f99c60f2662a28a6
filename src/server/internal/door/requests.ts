/**
 * What a session asks for: subscribe, unsubscribe, publish. Each is answered exactly once.
 *
 * Requests are checked in the order they came, `authenticate` and `authorize` included. What must then
 * wait (for the source, for the database) waits in order per channel, and no channel waits for
 * another. Rights that were looked at anew while a request waited are asked for once more.
 */
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import type { ClientFrame, FrameOf, ServerFrame } from "../../../Frame.ts"
import { channelNameFault } from "../../../Protocol.ts"
import { Bucket } from "./bucket.ts"
import { late, openingRefused, beginInTurn, replayBytes, tooFast } from "./budget.ts"
import { Follower } from "./follower.ts"
import type { Mailbox } from "./mailbox.ts"
import { publishOnce } from "./publishing.ts"
import type { Match } from "./registry.ts"
import { type Reading, Replays, Turn } from "./replays.ts"
import { ending, Rights, type Wish } from "./rights.ts"
import type { Unanswered } from "./unanswered.ts"
import * as turns from "../turns.ts"
import {
  errorFrame,
  overLimit,
  type Principal,
  type Refusal,
  refusal,
  refusalOf,
  Refused,
  type SessionContext,
  sourceDown
} from "./sessionContext.ts"

export type ChannelFrame = FrameOf<ClientFrame, "subscribe" | "unsubscribe" | "publish">

/** The session as its requests see it. */
export interface Owner {
  readonly mailbox: Mailbox
  readonly principal: Principal
  readonly unanswered: Pick<Unanswered<unknown>, "end">
  send(frame: ServerFrame): void
  /** Whether nothing may be asked as who it is any more; then it closes. */
  hasExpired(): boolean
  /** A request less waits. */
  answered(): void
  /** Runs on a fiber that ends with the session. */
  fork(effect: Effect.Effect<void>): void
}

/**
 * How many subscriptions of a session are looked at anew at once: events flow meanwhile, so it must not
 * take long; but one fresh token must not ask the application's database a hundred things at once.
 */
const looksAtOnce = 16

interface Subscription extends Wish, Reading {
  /** The request that began it. */
  readonly id: number
  readonly scope: Scope.Closeable
}

export class Requests {
  readonly #owner: Owner
  readonly #context: SessionContext
  readonly #rights: Rights
  #subscribes: Bucket | undefined
  #publishes: Bucket | undefined
  /** What the client asked for last: the request that holds, or will hold, each subscription. */
  readonly #wanted = new Map<string, number>()
  readonly #subscriptions = new Map<string, Subscription>()
  /** Work of each channel that must stay in order; present only while some of it waits. */
  readonly #chains = new Map<string, Array<Effect.Effect<void>>>()
  /** One look at all rights at a time, and the one that comes next. */
  #looks: Semaphore.Semaphore | undefined
  #nextLook: Deferred.Deferred<void> | undefined
  readonly #replays = new Replays()
  #inbox: Array<{ readonly id: number; readonly work: Effect.Effect<void> }> = []
  #working = false
  #stopped = false
  #ended = false

  constructor(owner: Owner, context: SessionContext) {
    this.#owner = owner
    this.#context = context
    this.#rights = new Rights(context, owner)
  }

  /** Answers a request, for good or for bad; one that was answered already is left alone. */
  answer(id: number, frame: ServerFrame): void {
    if (!this.#owner.unanswered.end(id)) return
    this.#owner.send(frame)
    this.#owner.answered()
  }

  refuse(id: number, refused: Refusal): void {
    if (this.#stopped) return
    this.#context.refused(refused.limit ?? refused.code)
    this.answer(id, errorFrame(refused, id))
  }

  /** Handles a request after those before it. What is refused at once costs no fiber. */
  push(frame: ChannelFrame): void {
    const { id } = frame
    const handled = Effect.suspend(() => this.#handle(frame))
    if (this.#working || this.#stopped || this.#owner.hasExpired()) return this.enqueue(id, handled)
    try {
      const decided = this.#decide(frame)
      if (Effect.isEffect(decided)) this.enqueue(id, decided)
      else this.refuse(id, decided)
    } catch (defect) {
      this.enqueue(id, Effect.die(defect))
    }
  }

  /** Works on a request after those before it. */
  enqueue(id: number, work: Effect.Effect<void>): void {
    if (this.#stopped) return
    this.#inbox.push({ id, work })
    if (this.#working) return
    this.#working = true
    this.#owner.fork(
      Effect.gen({ self: this }, function* () {
        let next: { readonly id: number; readonly work: Effect.Effect<void> } | undefined
        while ((next = this.#inbox.shift()) !== undefined) {
          // It may have waited long for those before it.
          if (!this.#owner.hasExpired()) yield* this.#safely(next.id, next.work)
        }
        // In the same step as the look: what comes later must find nobody at work.
        this.#working = false
      })
    )
  }

  /** Begins nothing new: the session is closing. */
  stop(): void {
    this.#stopped = true
    this.#inbox = []
  }

  /** Every request is answered, also one that meets a bug: here, in a schema, or in the application. */
  #safely(id: number, work: Effect.Effect<void>): Effect.Effect<void> {
    return Effect.catchCause(work, (cause) =>
      Effect.andThen(
        this.#context.failed("a request failed", cause),
        this.#refused(id, refusalOf(undefined))
      )
    )
  }

  /**
   * Asks `authorize` about every subscription again; those it refuses now are ended. One it cannot
   * decide about ends too, but may come back.
   */
  get reauthorize(): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (this.#ended) return Effect.void
      // Those on their way are asked about again before they begin.
      this.#rights.renew()
      // A look that has not begun yet is everybody's; one that has may have missed what just changed.
      if (this.#nextLook !== undefined) return Deferred.await(this.#nextLook)
      const look = Deferred.makeUnsafe<void>()
      this.#nextLook = look
      this.#looks ??= Semaphore.makeUnsafe(1)
      this.#owner.fork(
        this.#looks
          .withPermit(this.#lookAgain)
          .pipe(Effect.ensuring(Effect.sync(() => Deferred.doneUnsafe(look, Effect.void))))
      )
      return Deferred.await(look)
    })
  }

  /** All subscriptions together have the time that one has. */
  get #lookAgain(): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.#nextLook = undefined
      const { deadline } = this.#rights
      return Effect.forEach(
        [...this.#subscriptions],
        ([channel, subscription]) =>
          Effect.flatMap(this.#rights.decide(subscription, deadline), (refused) =>
            refused === undefined
              ? Effect.void
              : this.#endSubscription(channel, subscription, refused)
          ),
        { concurrency: looksAtOnce, discard: true }
      )
    })
  }

  /** Gives everything back: nothing is written after its first step, the rest in the steps of the loop. */
  get end(): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.#ended = true
      this.stop()
      this.#chains.clear()
      const held = [...this.#subscriptions.values()]
      for (const { follower } of held) follower.leave()
      this.#subscriptions.clear()
      return Effect.forEach(
        held,
        ({ scope }) => Effect.andThen(turns.ending.take(turns.one), Scope.close(scope, Exit.void)),
        { discard: true }
      )
    })
  }

  #handle(frame: ChannelFrame): Effect.Effect<void> {
    const decided = this.#decide(frame)
    return Effect.isEffect(decided) ? decided : this.#refused(frame.id, decided)
  }

  /** Why a request is refused, or what there is to do for it. */
  #decide(frame: ChannelFrame): Refusal | Effect.Effect<void> {
    const { channel: name, id } = frame
    const fault = channelNameFault(name)
    if (fault !== undefined) return refusal("channel/invalid-name", `The channel name ${fault}.`)
    const match = this.#context.registry.match(name)
    if (match === undefined) return refusal("channel/unknown")
    switch (frame.type) {
      case "unsubscribe":
        this.#wanted.delete(name)
        // What is replayed is wanted no more: the answer need not wait for it.
        this.#subscriptions.get(name)?.follower.leave()
        return this.#inOrder(name, id, this.#unsubscribe(id, name))
      case "subscribe": {
        const refused = this.#checkSubscribe(name, match)
        if (refused !== undefined) return refused
        this.#wanted.set(name, id)
        const wish: Wish = { channel: name, match, action: "subscribe" }
        const begin = this.#authorized(id, wish, (mark) => this.#subscribe(frame, wish, mark))
        return beginInTurn(this.#context, match, begin, (refused) => {
          this.#unwant(name, id)
          return this.#refused(id, refused)
        })
      }
      case "publish": {
        const { publishes } = this.#context.limits
        const now = this.#context.clock()
        this.#publishes ??= new Bucket(publishes, now)
        const wait = this.#publishes.take(publishes, now)
        if (wait > 0) {
          const reason = "The client publishes too often: slow down."
          return overLimit("publishes", "rate/limited", reason, wait)
        }
        return match.channel.publish
          ? this.#authorized(id, { channel: name, match, action: "publish" }, (mark, wish) =>
              this.#publish(frame, wish, mark)
            )
          : refusal("publish/forbidden", "Clients do not publish to this channel.")
      }
    }
  }

  #checkSubscribe(name: string, match: Match): Refusal | undefined {
    const { subscribes, subscriptions } = this.#context.limits
    const now = this.#context.clock()
    this.#subscribes ??= new Bucket(subscribes, now)
    const wait = this.#subscribes.take(subscribes, now)
    if (wait > 0) return tooFast(wait)
    if (this.#wanted.size >= subscriptions) {
      const reason = `A session has at most ${subscriptions} subscriptions: leave one first.`
      return overLimit("subscriptions", "subscribe/limit", reason)
    }
    if (this.#wanted.has(name)) {
      return refusal("subscribe/duplicate")
    }
    return openingRefused(this.#context, match, false)
  }

  /** `then` gets the mark of the decision. */
  #authorized(
    id: number,
    wish: Wish,
    then: (mark: number, wish: Wish) => Effect.Effect<void>
  ): Effect.Effect<void> {
    return Effect.suspend(() => {
      const { mark } = this.#rights
      return Effect.flatMap(this.#rights.decide(wish), (refused) => {
        if (refused === undefined) return this.#inOrder(wish.channel, id, then(mark, wish))
        if (wish.action === "subscribe") this.#unwant(wish.channel, id)
        return this.#refused(id, refused)
      })
    })
  }

  /** Queues work behind what the same channel still waits for. */
  #inOrder(name: string, id: number, work: Effect.Effect<void>): Effect.Effect<void> {
    return Effect.sync(() => {
      const safe = this.#safely(id, work)
      const chain = this.#chains.get(name)
      if (chain !== undefined) {
        chain.push(safe)
        return
      }
      const started = [safe]
      this.#chains.set(name, started)
      this.#owner.fork(
        Effect.gen({ self: this }, function* () {
          let next: Effect.Effect<void> | undefined
          while ((next = started.shift()) !== undefined) yield* next
          // In the same step as the look: what is queued later must find no chain.
          this.#chains.delete(name)
        })
      )
    })
  }

  #subscribe(
    { channel, cursor: from, id }: FrameOf<ClientFrame, "subscribe">,
    wish: Wish,
    mark: number
  ): Effect.Effect<void> {
    return Effect.uninterruptibleMask((restore) =>
      Effect.gen({ self: this }, function* () {
        const scope = yield* Scope.make()
        const turn = new Turn()
        const begun = yield* Effect.exit(
          restore(
            Effect.flatMap(this.#begin(wish.match, from, scope, turn), ({ follower, join }) =>
              this.#rights.hold(wish, mark, () => {
                if (this.#ended) return Effect.succeed(refusalOf(undefined))
                this.#subscriptions.set(channel, { ...wish, id, scope, follower })
                const { cursor, state } = join
                this.answer(id, { type: "subscribed", id, channel, state, cursor })
                return Effect.as(follower.go(join), undefined)
              })
            )
          )
        )
        this.#replays.leave(turn)
        // What begins is given back with the session, or by `unsubscribe`.
        if (this.#subscriptions.get(channel)?.scope === scope) return
        const refused = Exit.isFailure(begun) ? refusalOf(Cause.squash(begun.cause)) : begun.value
        // What is full, and what the source's loss brings, is known already.
        const known =
          refused === sourceDown ||
          refused?.code === "server/overloaded" ||
          refused?.code === "rate/limited" ||
          // The session has ended.
          (Exit.isFailure(begun) && Cause.hasInterruptsOnly(begun.cause))
        if (Exit.isFailure(begun) && !known && !this.#stopped) {
          yield* this.#context.failed(`a subscription to "${channel}" failed`, begun.cause)
        }
        if (refused !== undefined) {
          this.#unwant(channel, id)
          this.refuse(id, refused)
        }
        yield* Scope.close(scope, Exit.void)
      })
    )
  }

  /** Many cursors at once must not cost what none of them could cost after the other. */
  get #inBudget(): Effect.Effect<void, Refused> {
    return Effect.suspend(() => {
      const { clock, limits } = this.#context
      const wait = this.#subscribes?.debt(limits.subscribes, clock()) ?? 0
      return wait === 0 ? Effect.void : Effect.fail(new Refused(tooFast(wait)))
    })
  }

  /** Where the subscription starts, once the source listens. */
  #begin(match: Match, from: string | undefined, scope: Scope.Closeable, turn: Turn) {
    let opened = false
    return Effect.gen({ self: this }, function* () {
      const refused = openingRefused(this.#context, match, true)
      if (refused !== undefined) return yield* Effect.fail(new Refused(refused))
      const view = yield* match.delivery.open(match.channel)
      const follower = new Follower(view, this.#owner.mailbox, (cause) => {
        this.#context.refused("replay")
        return this.#context.failed(`a replay of "${match.channel.name}" failed`, cause)
      })
      yield* Scope.addFinalizer(
        scope,
        Effect.sync(() => follower.leave())
      )
      opened = true
      if (from !== undefined) {
        yield* this.#replays.enter(match, turn)
        yield* this.#inBudget
      }
      const join = yield* follower.join(from)
      if (join.state === "reset") this.#context.refused("reset")
      // As many bytes as one may get by subscribing so often: a short cursor must not cost so much more.
      this.#subscribes?.spend(Math.floor(join.bytes / replayBytes))
      return { follower, join }
    }).pipe(
      Scope.provide(scope),
      Effect.timeoutOrElse({
        duration: this.#context.limits.sourceWait,
        orElse: () => Effect.fail(late(this.#context, opened))
      })
    )
  }

  /** Whether a channel goes on from a cursor by itself after its frames were dropped. */
  resumes(channel: string): boolean {
    return this.#subscriptions.get(channel)?.match.delivery.resumes === true
  }

  /** The socket takes bytes, and channels are behind. */
  catchUp(): void {
    this.#owner.fork(
      this.#replays.readOn(
        this.#owner.mailbox,
        (channel) => this.#subscriptions.get(channel),
        // What can be had neither from a cursor nor from the present ends; the client comes back.
        (channel, subscription, cause) =>
          Effect.andThen(
            this.#context.failed(`a subscription to "${channel}" cannot go on`, cause),
            this.#endSubscription(channel, subscription, sourceDown)
          )
      )
    )
  }

  #unsubscribe(id: number, channel: string): Effect.Effect<void> {
    return Effect.suspend(() => {
      const left = this.#leave(channel)
      this.answer(id, { type: "unsubscribed", id, channel })
      return left
    })
  }

  #endSubscription(
    channel: string,
    subscription: Subscription,
    refused: Refusal
  ): Effect.Effect<void> {
    return Effect.suspend(() => {
      // Not the one that somebody began in the meantime.
      if (this.#subscriptions.get(channel) !== subscription) return Effect.void
      this.#unwant(channel, subscription.id)
      const left = this.#leave(channel)
      this.#context.refused(refused.code)
      this.#owner.send({ type: "ended", channel, ...ending(refused) })
      return left
    })
  }

  /** Nothing of the channel is written after this; the rest is given back by the effect. */
  #leave(channel: string): Effect.Effect<void> {
    const subscription = this.#subscriptions.get(channel)
    if (subscription === undefined) return Effect.void
    this.#subscriptions.delete(channel)
    subscription.follower.leave()
    return Scope.close(subscription.scope, Exit.void)
  }

  /** A later request for the channel stays. */
  #unwant(channel: string, id: number): void {
    if (this.#wanted.get(channel) === id) this.#wanted.delete(channel)
  }

  #publish(frame: FrameOf<ClientFrame, "publish">, wish: Wish, mark: number): Effect.Effect<void> {
    const { id } = frame
    const publish = () =>
      this.#stopped
        ? Effect.succeed(refusalOf(undefined))
        : publishOnce(this.#context, this.#owner.principal.key, frame, wish.match)
    return Effect.map(this.#rights.hold(wish, mark, publish), (refused) => {
      if (refused === undefined) this.answer(id, { type: "published", id })
      else this.refuse(id, refused)
    })
  }

  #refused(id: number, refused: Refusal): Effect.Effect<void> {
    return Effect.sync(() => this.refuse(id, refused))
  }
}
