/**
 * The deliveries of a node, and the state of everything that the node reads.
 *
 * A new delivery is a file beside `live.ts`, `durable.ts` and `volatile.ts`, and a line in `make`.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import type * as Channel from "../../../Channel.ts"
import type { NotificationSource, SourceState } from "../../NotificationSource.ts"
import type { TopicTaken } from "../../NodeBus.ts"
import type { OutboxReader } from "../../OutboxReader.ts"
import type { Delivery, ReadyError } from "./delivery.ts"
import * as Durable from "./durable.ts"
import * as Live from "./live.ts"
import { OpenChannels, type OpenOptions } from "./openChannels.ts"
import * as Presence from "../presence/onBus.ts"
import type { PresenceOptions } from "../presence/presence.ts"
import * as PresenceDelivery from "./presence.ts"
import { tally as tallyOfFiber } from "../tally.ts"
import * as Volatile from "./volatile.ts"

export interface HubOptions extends OpenOptions, Live.LiveOptions, Durable.DurableOptions {
  readonly presence: PresenceOptions
}

export interface Hub {
  /** The delivery of a channel, or of every channel of a family. */
  readonly deliveryOf: (definition: { readonly delivery: Channel.Any["delivery"] }) => Delivery
  /**
   * Whether events arrive; the current state first. Up when every source that these deliveries read is
   * up. Default: all deliveries.
   */
  readonly source: (deliveries?: ReadonlySet<Delivery>) => Stream.Stream<SourceState>
  /** Fails when the database refuses the source or the outbox for good at the start. */
  readonly refused: Effect.Effect<never, ReadyError>
}

export const make = (
  source: NotificationSource["Service"] | undefined,
  outbox: OutboxReader["Service"] | undefined,
  options: HubOptions
): Effect.Effect<Hub, TopicTaken, Scope.Scope> =>
  Effect.gen(function* () {
    const tally = yield* tallyOfFiber
    const openChannels = new OpenChannels(options, tally)
    const deliveries: Readonly<Record<Channel.Any["delivery"], Delivery>> = {
      live: source === undefined ? Live.none : yield* Live.make(source, openChannels, options),
      durable:
        outbox === undefined ? Durable.none : yield* Durable.make(outbox, openChannels, options),
      volatile: yield* Volatile.make(openChannels, options),
      presence: yield* PresenceDelivery.make(openChannels, yield* Presence.make(options.presence))
    }
    const all = Object.values(deliveries)
    return {
      deliveryOf: ({ delivery }) => deliveries[delivery],
      source: (some) => {
        const states = [...(some === undefined || some.size === 0 ? all : some)].flatMap(
          ({ state }) => (state === undefined ? [] : [SubscriptionRef.changes(state)])
        )
        const [first, ...rest] = states
        if (first === undefined) return Stream.make("up" as const)
        const both = rest.reduce(
          (one, other) =>
            Stream.zipLatestWith(one, other, (one, other) => (one === "up" ? other : one)),
          first
        )
        return Stream.changes(both)
      },
      refused: Effect.raceAllFirst(all.map(({ refused }) => refused))
    }
  })
