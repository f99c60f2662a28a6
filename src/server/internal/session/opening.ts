/**
 * How a subscription gets its view: opens it, reads its state, and joins it. Nothing is sent here.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Scope from "effect/Scope"
import type * as Channel from "../../../Channel.ts"
import type { JoinState } from "../../../Protocol.ts"
import type { OpenError, ViewState } from "../hub/delivery.ts"
import type { View, ViewJoin } from "../hub/view.ts"
import {
  type Refusal,
  refusal,
  refusalOf,
  RequestRefused,
  sourceDown
} from "../limits/refusalText.ts"
import type { JoinError } from "../outbox/catchUp.ts"
import { monotonic } from "../outbox/lookSchedule.ts"
import type { Lease } from "../outbox/sharedReads.ts"
import type { StateError } from "../outbox/state.ts"
import { InvalidBoundary } from "../auth/boundary.ts"
import type { Port } from "./port.ts"
import { PresenceSubscriber } from "./presenceSubscriber.ts"
import type { Match } from "./registry.ts"
import type { Replays, Turn } from "./replays.ts"
import { SubscriptionStates } from "./subscriptionStates.ts"
import { type SubscribeBudget, late, openingRefused } from "./subscribeBudget.ts"
import { logFailure } from "./subscribeFailure.ts"
import { Subscriber } from "./subscriber.ts"
import { type AnySubscriber, type Subscription, Tenure } from "./subscription.ts"
import { VolatileSubscriber } from "./volatileSubscriber.ts"

/** A subscription that joined its view and does not send yet. */
export interface BegunSubscription {
  /** When the client asked, in milliseconds of the monotonic clock. */
  readonly asked: number
  readonly tenure: Tenure
  readonly join: ViewJoin
}

/** The functions of the subscriptions that a view calls. */
export interface Followed {
  /** Lets subscriptions that are behind catch up. */
  readonly readOn: () => void
  /** Ends a subscription whose state cannot be read. */
  readonly failed: (
    subscription: Subscription,
    cause: Cause.Cause<StateError>
  ) => Effect.Effect<void>
}

/** How often a state is read at the start if its position is gone at once. */
const mostReads = 2

export const unread: Refusal = refusal(
  "server/overloaded",
  "The server could not read the state: try again later."
)

/** Whether a channel has a state: the rows of its table, or its last event where it has none. */
export const hasState = ({ channel, delivery }: Match): boolean =>
  delivery.stateOf !== undefined && (channel.table === undefined || delivery.resumes)

const bytesOf = ({ frames }: ViewState): number => frames.reduce((sum, { bytes }) => sum + bytes, 0)

/** Reads the state of a view of a channel that has one. */
const readState = (
  { match, where, wish }: Subscription,
  view: View<JoinError>,
  after: string | undefined,
  lease: Lease,
  unlike: ViewState | undefined
): Effect.Effect<ViewState, StateError> =>
  Effect.catchTag(match.delivery.stateOf!(view, after, lease, unlike), "InvalidFilter", (error) =>
    where === undefined || !Object.hasOwn(where, error.column)
      ? // Only `authorize` filters here, so the client is not at fault.
        Effect.die(
          new InvalidBoundary({ channel: wish.channel, issue: `that does not fit: ${error.issue}` })
        )
      : Effect.fail(error)
  )

export class Opening {
  readonly #port: Port
  readonly #budget: SubscribeBudget
  readonly #replays: Replays
  readonly #followed: Followed

  constructor(port: Port, budget: SubscribeBudget, replays: Replays, followed: Followed) {
    this.#port = port
    this.#budget = budget
    this.#replays = replays
    this.#followed = followed
  }

  /** Opens the channel and joins it, once the source listens. */
  begin(
    subscription: Subscription,
    from: string | undefined,
    scope: Scope.Closeable,
    turn: Turn
  ): Effect.Effect<BegunSubscription, OpenError | StateError | RequestRefused | Refusal> {
    const { context } = this.#port
    const { match } = subscription
    let opened = false
    return Effect.gen({ self: this }, function* () {
      const asked = yield* monotonic
      const refused = openingRefused(context, match, true)
      if (refused !== undefined) return yield* Effect.fail(new RequestRefused(refused))
      const tenure = yield* this.#open(subscription, scope)
      opened = true
      const stated = subscription.stated && tenure.states !== undefined
      if (from !== undefined || stated) {
        yield* this.#replays.enter(match, turn)
        const early = this.#budget.debt
        if (early !== undefined) return yield* Effect.fail(new RequestRefused(early))
      }
      const join = from === undefined && stated ? undefined : yield* tenure.subscriber.join(from)
      if (join?.state === "reset") {
        context.refused("reset")
        context.tally.resets[join.reason ?? "memory"]++
      }
      if (join !== undefined) this.#budget.charge(join.bytes)
      return !stated || join?.state === "recovered"
        ? { tenure, join: join!, asked }
        : yield* this.#joinState(tenure, tenure.states!, join?.state ?? "fresh", asked)
    }).pipe(
      Scope.provide(scope),
      Effect.timeoutOrElse({
        duration: context.limits.sourceTimeout,
        orElse: () => Effect.fail(late(context, opened))
      })
    )
  }

  /** Reads the state of a view, and joins at its position. */
  #joinState(
    tenure: Tenure,
    states: SubscriptionStates,
    begins: JoinState,
    asked: number
  ): Effect.Effect<BegunSubscription, JoinError | StateError | RequestRefused> {
    return Effect.gen({ self: this }, function* () {
      for (let read = 0; read < mostReads; read++) {
        const state = yield* states.first
        this.#budget.charge(bytesOf(state))
        const join = yield* tenure.subscriber.join(state.cursor)
        this.#budget.charge(join.bytes)
        if (join.state !== "recovered") continue
        return { tenure, join: { ...join, state: begins, cursor: state.cursor }, asked }
      }
      return yield* Effect.fail(new RequestRefused(unread))
    })
  }

  /** Opens the view of a subscription and joins it at the present. */
  present(subscription: Subscription, scope: Scope.Closeable) {
    const { context } = this.#port
    return Effect.flatMap(this.#open(subscription, scope), (tenure) =>
      Effect.map(tenure.subscriber.join(undefined), (join) => ({ tenure, join }))
    ).pipe(
      Scope.provide(scope),
      Effect.timeoutOrElse({
        duration: context.limits.sourceTimeout,
        orElse: () => Effect.fail(sourceDown)
      })
    )
  }

  /** Opens the view of a subscription. */
  #open(
    subscription: Subscription,
    scope: Scope.Closeable
  ): Effect.Effect<Tenure, OpenError, Scope.Scope> {
    const { boundary, match, where } = subscription
    return Effect.gen({ self: this }, function* () {
      const view = yield* match.delivery.open(match.channel, { where, boundary })
      const states = this.#statesOf(subscription, view, () => tenure)
      const subscriber = this.#subscriber(match, view, (cursor) => states?.gap(cursor))
      const tenure: Tenure = new Tenure(view, subscriber, states, scope)
      yield* Scope.addFinalizer(
        scope,
        Effect.sync(() => void tenure.leave())
      )
      return tenure
    })
  }

  #subscriber(
    { channel, delivery }: Match,
    view: View<JoinError>,
    onGap: (cursor: string) => void
  ): AnySubscriber {
    if (delivery.presence !== undefined) {
      // Only presence channels have this delivery.
      const { counts } = channel as Channel.Presence<unknown>
      return new PresenceSubscriber(view, this.#port, delivery.presence, counts)
    }
    return delivery.remembers
      ? new Subscriber(view, this.#port, onGap)
      : new VolatileSubscriber(view, this.#port.mailbox)
  }

  /** The states of a view; `undefined` for a channel that has none. */
  #statesOf(
    subscription: Subscription,
    view: View<JoinError>,
    tenure: () => Tenure
  ): SubscriptionStates | undefined {
    if (!hasState(subscription.match)) return undefined
    return new SubscriptionStates(view, this.#port, {
      again: subscription.stated,
      read: (after, lease, unlike) => readState(subscription, view, after, lease, unlike),
      follow: (cursor) => {
        tenure().subscriber.fallBehind(cursor)
        this.#followed.readOn()
      },
      lost: (cause) =>
        Effect.sync(() =>
          // On a fiber of its own: the end of the subscription interrupts this one.
          this.#port.fork(this.#followed.failed(subscription, cause))
        ),
      refuse: (id, cause) =>
        Effect.andThen(
          logFailure(this.#port, subscription.wish.channel, cause, "could not read its state"),
          Effect.sync(() => this.#port.refuse(id, refusalOf(Cause.squash(cause))))
        )
    })
  }
}
