/**
 * What carries the ticks of the elected reader to the other nodes: `NatsFeed` of `effect-realtime/nats`.
 *
 * With a carrier beneath it `OutboxReader.layer` elects one node, which reads the outbox for all of them.
 * What the carrier loses, doubles or delays costs a read of the outbox, and never an event.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"

/**
 * Receives what the elected reader sends, also the one of this node. The functions return soon and never
 * throw.
 *
 * @category models
 * @since 0.1.0
 */
export interface Receiver {
  readonly tick: (text: string) => void
  /** A page of a channel that is followed. */
  readonly page: (text: string) => void
}

/**
 * One node at the feed of a database.
 *
 * @category models
 * @since 0.1.0
 */
export interface Feed {
  /** Whether it has a connection now. */
  readonly isUp: () => boolean
  /** The bytes of the largest text that it takes now. */
  readonly maxBytes: () => number
  /** Sends to all nodes, in the order of the calls. What cannot leave now is dropped. */
  readonly sendTick: (text: string) => void
  /** The same to the nodes that follow the channel. */
  readonly sendPage: (channel: string, text: string) => void
  /** From now on the receiver gets the pages of this channel. */
  readonly follow: (channel: string) => void
  /** From now on it gets none. */
  readonly leave: (channel: string) => void
}

/**
 * The carrier of a node.
 *
 * @category services
 * @since 0.1.0
 */
export class FeedCarrier extends Context.Service<
  FeedCarrier,
  {
    /** Joins the feed of a database, by its identity, until the scope closes. */
    readonly join: (identity: string, receiver: Receiver) => Effect.Effect<Feed, never, Scope.Scope>
  }
>()("effect-realtime/server/FeedCarrier") {}
