/**
 * A subscription that a session holds, and all that it holds, by the names that a client and the mailbox use.
 *
 * A subscription is named by its channel and its filter. It has one view at a time: another one when its
 * boundary changes.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Where } from "../../../Frame.ts"
import type { ViewState } from "../hub/delivery.ts"
import type { View, ViewJoin } from "../hub/view.ts"
import type { JoinError } from "../outbox/catchUp.ts"
import type { Replayable } from "./replays.ts"
import type { Wish } from "./rights.ts"
import type { SubscriptionStates } from "./subscriptionStates.ts"
import type { Subscriber } from "./subscriber.ts"
import type { PresenceSubscriber } from "./presenceSubscriber.ts"
import type { VolatileSubscriber } from "./volatileSubscriber.ts"

/** How many earlier views of a subscription a client may still name. */
const mostEarlier = 16

/** What holds a socket to a view, by its delivery. */
export type AnySubscriber =
  | Subscriber<JoinError>
  | VolatileSubscriber<JoinError>
  | PresenceSubscriber<JoinError>

/** One view of a subscription, until the client leaves or the boundary changes. */
export class Tenure {
  readonly view: View<JoinError>
  readonly subscriber: AnySubscriber
  /** Absent where the channel has no state. */
  readonly states: SubscriptionStates | undefined
  readonly scope: Scope.Closeable

  constructor(
    view: View<JoinError>,
    subscriber: AnySubscriber,
    states: SubscriptionStates | undefined,
    scope: Scope.Closeable
  ) {
    this.view = view
    this.subscriber = subscriber
    this.states = states
    this.scope = scope
  }

  /** Sends the state, if there is one, then the events from its cursor. */
  start(join: ViewJoin): Effect.Effect<void> {
    const state = this.states?.waiting
    return state === undefined
      ? this.subscriber.go(join)
      : this.#sendState(state, this.subscriber.go(join))
  }

  /** Goes on where the socket was full: with the state that waits, or from a cursor. */
  catchUp(from: string): Effect.Effect<void, JoinError> {
    return Effect.suspend(() => {
      const state = this.states?.waiting
      return state === undefined
        ? this.subscriber.catchUp(from)
        : this.#sendState(state, this.subscriber.catchUp(state.cursor))
    })
  }

  /** Stops everything in this step. Returns the requests for a state that are not answered. */
  leave(): ReadonlyArray<number> {
    const asked = this.states?.leave() ?? []
    this.subscriber.leave()
    return asked
  }

  #sendState<E>(state: ViewState, then: Effect.Effect<void, E>): Effect.Effect<void, E> {
    return Effect.flatMap(this.states!.send(state), (sent) => {
      if (sent) return then
      // Unless another state has its place, or the client left.
      if (this.states!.waiting === state) this.subscriber.fallBehind(state.cursor)
      return Effect.void
    })
  }
}

export class Subscription implements Replayable {
  /** Names it within the session. */
  readonly key: string
  /** The id of the request that began it. */
  readonly id: number
  readonly wish: Wish
  readonly where: Where | undefined
  /** Whether the client receives the state where the subscription does not resume, and after each gap. */
  readonly stated: boolean
  /** What `authorize` answered last. */
  boundary: Where | undefined
  tenure: Tenure | undefined
  /** The view that the client knows. */
  told: string | undefined
  /** Counts the changes of the boundary. */
  moves = 0
  /** The keys of its views, the present one last. */
  readonly views: Array<string> = []
  /** Whether it left a view and did not enter the next one. */
  #between = false
  readonly #asked: Array<number> = []

  constructor(
    key: string,
    wish: Wish,
    request: { readonly id: number; readonly where?: Where; readonly state?: boolean }
  ) {
    this.key = key
    this.wish = wish
    this.id = request.id
    this.where = request.where
    this.stated = request.state === true
  }

  get match() {
    return this.wish.match
  }

  hold(): void {
    this.tenure?.subscriber.hold()
  }

  catchUp(from: string): Effect.Effect<void, JoinError> {
    return this.tenure?.catchUp(from) ?? Effect.void
  }

  /** The client asks for the state. Between two views the request waits for the next one. */
  ask(id: number): void {
    if (this.#between) this.#asked.push(id)
    else this.tenure?.states?.ask(id)
  }

  /** Goes on in this view. */
  enter(tenure: Tenure): void {
    this.tenure = tenure
    this.told = tenure.view.label
    this.#between = false
  }

  /** Stops everything in this step. */
  leave(): void {
    this.#between = true
    this.#asked.push(...(this.tenure?.leave() ?? []))
  }

  /** The requests for the state that are not answered, after `leave`. */
  takeAsked(): ReadonlyArray<number> {
    return this.#asked.splice(0)
  }
}

export class Held {
  readonly #byKey = new Map<string, Subscription>()
  /** By the keys of their views, also earlier ones: the client may not know yet of the present one. */
  readonly #byView = new Map<string, Subscription>()

  get size(): number {
    return this.#byKey.size
  }

  get all(): ReadonlyArray<Subscription> {
    return [...this.#byKey.values()]
  }

  get(key: string): Subscription | undefined {
    return this.#byKey.get(key)
  }

  has(subscription: Subscription): boolean {
    return this.#byKey.get(subscription.key) === subscription
  }

  /** The subscription with this view. */
  ofView(key: string): Subscription | undefined {
    return this.#byView.get(key)
  }

  /** The subscription that a client names. Without a view it is that of the channel without a filter. */
  named(channel: string, view: string | undefined): Subscription | undefined {
    return view === undefined ? this.#byKey.get(channel) : this.#byView.get(`${channel} ${view}`)
  }

  /** Holds a subscription, in its present view. */
  add(subscription: Subscription, tenure: Tenure): void {
    const { key } = tenure.view
    const { views } = subscription
    subscription.enter(tenure)
    const before = views.indexOf(key)
    if (before >= 0) views.splice(before, 1)
    views.push(key)
    if (views.length > mostEarlier) this.#byView.delete(views.shift()!)
    this.#byKey.set(subscription.key, subscription)
    this.#byView.set(key, subscription)
  }

  remove(subscription: Subscription): void {
    this.#byKey.delete(subscription.key)
    for (const view of subscription.views) this.#byView.delete(view)
  }

  clear(): void {
    this.#byKey.clear()
    this.#byView.clear()
  }
}
