/**
 * The subscriptions of a session: how each begins, resumes after its frames were dropped, is authorized
 * again, and ends.
 */
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import type { ClientFrame, FrameOf } from "../../../Frame.ts"
import { Bucket } from "../limits/tokenBucket.ts"
import { late, openingRefused, replayBytes, tooFast } from "./subscribeBudget.ts"
import { Subscriber } from "./subscriber.ts"
import { VolatileSubscriber } from "./volatileSubscriber.ts"
import { nowhere } from "../hub/batch.ts"
import type { Port } from "./port.ts"
import type { Match } from "./registry.ts"
import { type Replayable, Replays, Turn } from "./replays.ts"
import { endedBy, type Grant, isRefusal, type Rights, type Wish } from "./rights.ts"
import * as turns from "../eventLoopTurns.ts"
import {
  overLimit,
  type Refusal,
  refusal,
  refusalOf,
  RequestRefused,
  sourceDown
} from "../limits/refusalText.ts"

/**
 * How many subscriptions of a session `authorize` decides about at once after a new token: enough to be
 * fast, because events flow meanwhile, and few enough for the application's database.
 */
const looksAtOnce = 16

interface Subscription extends Wish, Replayable {
  /** The id of the request that began it. */
  readonly id: number
  readonly scope: Scope.Closeable
}

export class Subscriptions {
  readonly #port: Port
  readonly #rights: Rights
  #subscribes: Bucket | undefined
  /** By channel, the id of the last subscribe request: it holds, or will hold, the subscription. */
  readonly #wanted = new Map<string, number>()
  readonly #held = new Map<string, Subscription>()
  /** Allows one check of all rights at a time. `#nextLook` is the check that waits. */
  #looks: Semaphore.Semaphore | undefined
  #nextLook: Deferred.Deferred<void> | undefined
  readonly #replays = new Replays()

  constructor(port: Port, rights: Rights) {
    this.#port = port
    this.#rights = rights
  }

  /** Reserves a subscription to a channel. Returns the refusal at a limit. */
  want(name: string, match: Match, id: number): Refusal | undefined {
    const { context } = this.#port
    const { subscribeRate, maxSubscriptions } = context.limits
    const now = context.clock()
    this.#subscribes ??= new Bucket(subscribeRate, now)
    const wait = this.#subscribes.take(subscribeRate, now)
    if (wait > 0) return tooFast(wait)
    if (this.#wanted.size >= maxSubscriptions) {
      const reason = `A session has at most ${maxSubscriptions} subscriptions: leave one first.`
      return overLimit("maxSubscriptions", "subscribe/limit", reason)
    }
    if (this.#wanted.has(name)) return refusal("subscribe/duplicate")
    const refused = openingRefused(context, match, false)
    if (refused === undefined) this.#wanted.set(name, id)
    return refused
  }

  /** Releases the reservation of a request that failed, but not that of a later request. */
  unwant(channel: string, id: number): void {
    if (this.#wanted.get(channel) === id) this.#wanted.delete(channel)
  }

  subscribe(
    { channel, cursor: from, id }: FrameOf<ClientFrame, "subscribe">,
    wish: Wish,
    grant: Grant
  ): Effect.Effect<void> {
    return Effect.uninterruptibleMask((restore) =>
      Effect.gen({ self: this }, function* () {
        const scope = yield* Scope.make()
        const turn = new Turn()
        const begun = yield* Effect.exit(
          restore(
            Effect.flatMap(this.#begin(wish.match, from, scope, turn), ({ subscriber, join }) =>
              this.#rights.hold(wish, grant, () => {
                if (this.#port.ended) return Effect.succeed(refusalOf(undefined))
                this.#held.set(channel, { ...wish, id, scope, subscriber })
                const { cursor, state } = join
                const at = cursor === nowhere ? {} : { cursor }
                this.#port.answer(id, { type: "subscribed", id, channel, state, ...at })
                return Effect.as(subscriber.go(join), undefined)
              })
            )
          )
        )
        this.#replays.leave(turn)
        if (this.#port.mailbox.isBehind) this.readOn()
        // A subscription that began is released with the session, or by `unsubscribe`.
        if (this.#held.get(channel)?.scope === scope) return
        const refused = Exit.isFailure(begun) ? refusalOf(Cause.squash(begun.cause)) : begun.value
        // Overload and the loss of the source are logged elsewhere.
        const known =
          refused === sourceDown ||
          refused?.code === "server/overloaded" ||
          refused?.code === "rate/limited" ||
          // The session ended meanwhile.
          (Exit.isFailure(begun) && Cause.hasInterruptsOnly(begun.cause))
        if (Exit.isFailure(begun) && !known && !this.#port.stopped) {
          yield* this.#port.context.failed(`a subscription to "${channel}" failed`, begun.cause)
        }
        if (refused !== undefined) {
          this.unwant(channel, id)
          this.#port.refuse(id, refused)
        }
        yield* Scope.close(scope, Exit.void)
      })
    )
  }

  /** Charges replays to `subscribeRate`: cursors in parallel cost as much as one after the other. */
  get #inBudget(): Effect.Effect<void, RequestRefused> {
    return Effect.suspend(() => {
      const { clock, limits } = this.#port.context
      const wait = this.#subscribes?.debt(limits.subscribeRate, clock()) ?? 0
      return wait === 0 ? Effect.void : Effect.fail(new RequestRefused(tooFast(wait)))
    })
  }

  /** Opens the channel and joins it, once the source listens. */
  #begin(match: Match, from: string | undefined, scope: Scope.Closeable, turn: Turn) {
    const { context } = this.#port
    let opened = false
    return Effect.gen({ self: this }, function* () {
      const refused = openingRefused(context, match, true)
      if (refused !== undefined) return yield* Effect.fail(new RequestRefused(refused))
      const view = yield* match.delivery.open(match.channel)
      const subscriber = match.delivery.remembers
        ? new Subscriber(view, this.#port)
        : new VolatileSubscriber(view, this.#port.mailbox)
      yield* Scope.addFinalizer(
        scope,
        Effect.sync(() => subscriber.leave())
      )
      opened = true
      if (from !== undefined) {
        yield* this.#replays.enter(match, turn)
        yield* this.#inBudget
      }
      const join = yield* subscriber.join(from)
      if (join.state === "reset") context.refused("reset")
      // Charges the bytes of a replay as further subscribe requests.
      this.#subscribes?.spend(Math.floor(join.bytes / replayBytes))
      return { subscriber, join }
    }).pipe(
      Scope.provide(scope),
      Effect.timeoutOrElse({
        duration: context.limits.sourceTimeout,
        orElse: () => Effect.fail(late(context, opened))
      })
    )
  }

  /** Lets channels that are behind catch up: the socket takes bytes again. */
  readOn(): void {
    this.#port.fork(
      this.#replays.readOn(
        this.#port.mailbox,
        (channel) => this.#held.get(channel),
        // If neither replay nor present can be read, the subscription ends and the client retries.
        (channel, subscription, cause) =>
          Effect.andThen(
            this.#port.context.failed(`a subscription to "${channel}" cannot go on`, cause),
            this.#endOne(channel, subscription, sourceDown)
          )
      )
    )
  }

  /** Releases the reservation at once. The effect leaves the channel and answers. */
  unsubscribe(id: number, channel: string): Effect.Effect<void> {
    this.#wanted.delete(channel)
    // Stops a replay, so that the answer does not wait for it.
    this.#held.get(channel)?.subscriber.leave()
    return Effect.suspend(() => {
      const left = this.#leave(channel)
      this.#port.answer(id, { type: "unsubscribed", id, channel })
      return left
    })
  }

  /** Asks `authorize` about every subscription again, and ends those that it rejects. */
  get reauthorize(): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (this.#port.ended) return Effect.void
      // Subscriptions on their way are decided about again before they begin.
      this.#rights.renew()
      // A check that has not begun serves all callers; one that has may have missed the last change.
      if (this.#nextLook !== undefined) return Deferred.await(this.#nextLook)
      const look = Deferred.makeUnsafe<void>()
      this.#nextLook = look
      this.#looks ??= Semaphore.makeUnsafe(1)
      this.#port.fork(
        this.#looks
          .withPermit(this.#lookAgain)
          .pipe(Effect.ensuring(Effect.sync(() => Deferred.doneUnsafe(look, Effect.void))))
      )
      return Deferred.await(look)
    })
  }

  /** All subscriptions share one `authorizeTimeout`. */
  get #lookAgain(): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.#nextLook = undefined
      const { deadline } = this.#rights
      return Effect.forEach(
        [...this.#held],
        ([channel, subscription]) =>
          Effect.flatMap(this.#rights.decide(subscription, deadline), (decision) =>
            isRefusal(decision) ? this.#endOne(channel, subscription, decision) : Effect.void
          ),
        { concurrency: looksAtOnce, discard: true }
      )
    })
  }

  /** Ends all subscriptions. No event is written after the first step; later steps close the scopes. */
  get end(): Effect.Effect<void> {
    return Effect.suspend(() => {
      const held = [...this.#held.values()]
      for (const { subscriber } of held) subscriber.leave()
      this.#held.clear()
      return Effect.forEach(
        held,
        ({ scope }) => Effect.andThen(turns.ending.take(turns.one), Scope.close(scope, Exit.void)),
        { discard: true }
      )
    })
  }

  #endOne(channel: string, subscription: Subscription, refused: Refusal): Effect.Effect<void> {
    return Effect.suspend(() => {
      // The client may have subscribed anew in the meantime.
      if (this.#held.get(channel) !== subscription) return Effect.void
      this.unwant(channel, subscription.id)
      const left = this.#leave(channel)
      this.#port.context.refused(refused.code)
      this.#port.send({ type: "ended", channel, ...endedBy(refused) })
      return left
    })
  }

  /** Leaves a channel. No event is written after this; the effect closes the scope. */
  #leave(channel: string): Effect.Effect<void> {
    const subscription = this.#held.get(channel)
    if (subscription === undefined) return Effect.void
    this.#held.delete(channel)
    subscription.subscriber.leave()
    return Scope.close(subscription.scope, Exit.void)
  }
}
