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
import type { ClientFrame, FrameOf, Where } from "../../../Frame.ts"
import { nowhere } from "../hub/batch.ts"
import { Histories } from "./history.ts"
import { type BegunSubscription, hasState, Opening, unread } from "./opening.ts"
import type { Port } from "./port.ts"
import { Presenting } from "./presenting.ts"
import type { Match } from "./registry.ts"
import { Replays, Turn } from "./replays.ts"
import { endedBy, type Grant, isRefusal, type Rights, type Wish } from "./rights.ts"
import { SubscribeBudget, openingRefused } from "./subscribeBudget.ts"
import { logFailure } from "./subscribeFailure.ts"
import { Held, Subscription } from "./subscription.ts"
import { subscriptionKey, textOf } from "./where.ts"
import { monotonic } from "../outbox/lookSchedule.ts"
import { inSpan } from "../tracing.ts"
import * as turns from "../eventLoopTurns.ts"
import { overLimit, type Refusal, refusal, refusalOf, sourceDown } from "../limits/refusalText.ts"

/**
 * How many subscriptions of a session `authorize` decides about at once after a new token: enough to be
 * fast, because events flow meanwhile, and few enough for the application's database.
 */
const looksAtOnce = 16

const unsubscribed = refusal(
  "channel/unknown",
  "The session has no subscription of this channel and view."
)
const stateless = refusal("frame/malformed", "The frame is not valid: the channel has no state.")

type SubscribeFrame = FrameOf<ClientFrame, "subscribe">

export class Subscriptions {
  readonly #port: Port
  readonly #rights: Rights
  readonly #budget: SubscribeBudget
  readonly #opening: Opening
  readonly histories: Histories
  readonly presenting: Presenting
  /** By key, the id of the last subscribe request: it holds, or will hold, the subscription. */
  readonly #wanted = new Map<string, number>()
  readonly #held = new Held()
  /** Allows one check of all rights at a time. `#nextLook` is the check that waits. */
  #looks: Semaphore.Semaphore | undefined
  #nextLook: Deferred.Deferred<void> | undefined
  readonly #replays = new Replays()

  constructor(port: Port, rights: Rights) {
    this.#port = port
    this.#rights = rights
    this.#budget = new SubscribeBudget(port.context)
    this.histories = new Histories(port, rights, this.#budget, this.#replays)
    this.presenting = new Presenting(port, rights, (channel) =>
      this.#held.named(channel, undefined)
    )
    this.#opening = new Opening(port, this.#budget, this.#replays, {
      readOn: () => this.#readOnIfBehind(),
      failed: (subscription, cause) => this.#failed(subscription, cause)
    })
  }

  /** Reserves a subscription. Returns the refusal at a limit. */
  want(key: string, match: Match, id: number): Refusal | undefined {
    const { context } = this.#port
    const { maxSubscriptions } = context.limits
    const early = this.#budget.take()
    if (early !== undefined) return early
    if (this.#wanted.size >= maxSubscriptions) {
      const reason = `A session has at most ${maxSubscriptions} subscriptions: leave one first.`
      return overLimit("maxSubscriptions", "subscribe/limit", reason)
    }
    if (this.#wanted.has(key)) return refusal("subscribe/duplicate")
    const refused = openingRefused(context, match, false)
    if (refused === undefined) this.#wanted.set(key, id)
    return refused
  }

  get size(): number {
    return this.#held.size
  }

  /** Releases the reservation of a request that failed, but not that of a later request. */
  unwant(key: string, id: number): void {
    if (this.#wanted.get(key) === id) this.#wanted.delete(key)
  }

  subscribe(request: SubscribeFrame, wish: Wish, grant: Grant): Effect.Effect<void> {
    const { channel, id, where } = request
    const subscription = new Subscription(subscriptionKey(channel, where), wish, request)
    return Effect.uninterruptibleMask((restore) =>
      Effect.gen({ self: this }, function* () {
        let next: Grant | undefined = grant
        while (next !== undefined) {
          const asked: Grant = next
          next = undefined
          const scope = yield* Scope.make()
          const turn = new Turn()
          subscription.boundary = asked.boundary
          const begun = yield* Effect.exit(
            restore(
              Effect.flatMap(
                inSpan("realtime.subscribe", () => ({
                  root: true,
                  kind: "server",
                  attributes: {
                    "realtime.channel": channel,
                    "realtime.resumes": request.cursor !== undefined
                  }
                }))(this.#opening.begin(subscription, request.cursor, scope, turn)),
                (begun) =>
                  this.#rights.hold(wish, asked, (valid) => {
                    if (this.#port.ended) return Effect.succeed(refusalOf(undefined))
                    // The view is that of other rows than the client may see now: begins anew.
                    if (textOf(valid.boundary) !== textOf(asked.boundary)) {
                      next = valid
                      return Effect.undefined
                    }
                    return Effect.as(this.#start(subscription, begun), undefined)
                  })
              )
            )
          )
          this.#replays.leave(turn)
          this.#readOnIfBehind()
          // A subscription that began is released with the session, or by `unsubscribe`.
          if (this.#held.has(subscription) && subscription.tenure?.scope === scope) return
          const refused = Exit.isFailure(begun) ? refusalOf(Cause.squash(begun.cause)) : begun.value
          if (Exit.isFailure(begun)) yield* logFailure(this.#port, channel, begun.cause)
          if (refused !== undefined) {
            this.unwant(subscription.key, id)
            this.#port.refuse(id, refused)
          }
          yield* Scope.close(scope, Exit.void)
        }
      })
    )
  }

  /** Holds a subscription from this step on, answers, and sends the state or the replay. */
  #start(
    subscription: Subscription,
    { asked, join, tenure }: BegunSubscription
  ): Effect.Effect<void> {
    const { id, wish } = subscription
    const { label } = tenure.view
    this.#held.add(subscription, tenure)
    this.#port.answer(id, {
      type: "subscribed",
      id,
      channel: wish.channel,
      state: join.state,
      ...(join.cursor === nowhere ? {} : { cursor: join.cursor }),
      ...(label === undefined ? {} : { view: label })
    })
    if (join.state !== "recovered") return tenure.start(join)
    const { replaySeconds } = this.#port.context.tally
    const replay = inSpan("realtime.replay", () => ({
      root: true,
      attributes: {
        "realtime.channel": wish.channel,
        "realtime.events": join.replay.reduce((sum, { size }) => sum + size.events, 0)
      }
    }))(tenure.start(join))
    return Effect.map(Effect.andThen(replay, monotonic), (now) =>
      replaySeconds.add((now - asked) / 1000)
    )
  }

  /** Ends a subscription that cannot go on. */
  #failed(subscription: Subscription, cause: Cause.Cause<unknown>): Effect.Effect<void> {
    const refused = refusalOf(Cause.squash(cause))
    return Effect.andThen(
      logFailure(this.#port, subscription.wish.channel, cause, "cannot go on"),
      this.#endOne(subscription, refused.code === "state/too-large" ? refused : unread)
    )
  }

  /** Answers a request for the state of a subscription. Returns the refusal at once, if there is one. */
  state({ channel, id, view }: FrameOf<ClientFrame, "state">, match: Match): Refusal | undefined {
    const early = this.#budget.take()
    if (early !== undefined) return early
    if (!hasState(match)) return stateless
    const subscription = this.#held.named(channel, view)
    if (subscription === undefined) return unsubscribed
    const debt = this.#budget.debt
    if (debt === undefined) subscription.ask(id)
    return debt
  }

  #readOnIfBehind(): void {
    if (this.#port.mailbox.isBehind) this.readOn()
  }

  /** Lets subscriptions that are behind catch up: the socket takes bytes again. */
  readOn(): void {
    this.#port.fork(
      this.#replays.readOn(
        this.#port.mailbox,
        (key) => this.#held.ofView(key),
        // If neither replay nor present can be read, the subscription ends and the client retries.
        (subscription, cause) =>
          Effect.andThen(
            this.#port.context.failed(
              `a subscription to "${subscription.wish.channel}" cannot go on`,
              cause
            ),
            this.#endOne(subscription, sourceDown)
          )
      )
    )
  }

  /** Releases the reservation at once. The effect leaves the channel and answers. */
  unsubscribe(id: number, channel: string, view: string | undefined): Effect.Effect<void> {
    const named = this.#held.named(channel, view)
    // A view that the session does not have names no subscription, also not one on its way.
    const key = named?.key ?? (view === undefined ? channel : undefined)
    if (key !== undefined) this.#wanted.delete(key)
    // Stops a replay, so that the answer does not wait for it.
    if (named !== undefined) this.#stop(named)
    return Effect.suspend(() => {
      const held = key === undefined ? undefined : this.#held.get(key)
      const left = held === undefined ? Effect.void : this.#leave(held)
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
        this.#held.all,
        (subscription) =>
          Effect.flatMap(this.#rights.decide(subscription.wish, deadline), (decision) =>
            isRefusal(decision)
              ? this.#endOne(subscription, decision)
              : Effect.andThen(
                  Effect.sync(() => this.#limit(subscription, decision.boundary)),
                  this.presenting.again(subscription, deadline)
                )
          ),
        { concurrency: looksAtOnce, discard: true }
      )
    })
  }

  /** Moves a subscription to the view of other rows, if the client may see other rows than before. */
  #limit(subscription: Subscription, boundary: Where | undefined): void {
    if (!this.#held.has(subscription)) return
    if (textOf(boundary) === textOf(subscription.boundary)) return
    // From this step on no row of the old boundary reaches the socket.
    subscription.leave()
    subscription.boundary = boundary
    const move = ++subscription.moves
    const old = subscription.tenure!.scope
    this.#port.fork(
      Effect.uninterruptibleMask((restore) =>
        Effect.gen({ self: this }, function* () {
          yield* Scope.close(old, Exit.void)
          const scope = yield* Scope.make()
          const moved = yield* Effect.exit(restore(this.#opening.present(subscription, scope)))
          const holds = this.#held.has(subscription) && subscription.moves === move
          if (holds && Exit.isSuccess(moved)) {
            yield* restore(this.#settle(subscription, moved.value))
            return
          }
          if (holds && Exit.isFailure(moved)) {
            const { channel } = subscription.wish
            yield* logFailure(this.#port, channel, moved.cause, "cannot change its rows")
            yield* this.#endOne(subscription, refusalOf(Cause.squash(moved.cause)))
          }
          yield* Scope.close(scope, Exit.void)
        })
      )
    )
  }

  /** Goes on in a new view, from a gap. */
  #settle(
    subscription: Subscription,
    { join, tenure }: Pick<BegunSubscription, "join" | "tenure">
  ): Effect.Effect<void> {
    const { told, wish } = subscription
    const { label } = tenure.view
    this.#held.add(subscription, tenure)
    this.#port.send({
      type: "gap",
      channel: wish.channel,
      ...(told === undefined ? {} : { view: told }),
      reason: "rights",
      cursor: join.cursor,
      ...(label === undefined ? {} : { now: label })
    })
    this.#port.context.tally.gaps.rights++
    tenure.states?.begin()
    for (const id of subscription.takeAsked()) subscription.ask(id)
    return Effect.andThen(
      tenure.subscriber.go(join),
      Effect.sync(() => {
        this.#readOnIfBehind()
      })
    )
  }

  /** Ends all subscriptions. No event is written after the first step; later steps close the scopes. */
  get end(): Effect.Effect<void> {
    return Effect.suspend(() => {
      const held = this.#held.all
      for (const subscription of held) subscription.leave()
      this.#held.clear()
      return Effect.forEach(
        held,
        ({ tenure }) =>
          Effect.andThen(turns.ending.take(turns.one), Scope.close(tenure!.scope, Exit.void)),
        { discard: true }
      )
    })
  }

  #endOne(subscription: Subscription, refused: Refusal): Effect.Effect<void> {
    return Effect.suspend(() => {
      // The client may have subscribed anew in the meantime.
      if (!this.#held.has(subscription)) return Effect.void
      const { id, key, told, wish } = subscription
      this.unwant(key, id)
      const why = endedBy(refused)
      const left = this.#leave(subscription, why)
      this.#port.context.refused(refused.code)
      const view = told === undefined ? {} : { view: told }
      this.#port.send({ type: "ended", channel: wish.channel, ...view, ...why })
      return left
    })
  }

  /** Leaves a view. No event is written after this; the effect closes the scope. */
  #leave(subscription: Subscription, why?: Refusal): Effect.Effect<void> {
    this.#held.remove(subscription)
    this.#stop(subscription, why)
    return Scope.close(subscription.tenure!.scope, Exit.void)
  }

  /** Stops a subscription in this step, and rejects the requests for its state as it ends itself. */
  #stop(subscription: Subscription, why = unsubscribed): void {
    subscription.moves++
    subscription.leave()
    for (const id of subscription.takeAsked()) this.#port.refuse(id, why)
  }
}
