/**
 * Messages between the nodes of one database.
 *
 * In: what a part of a node sends on its topic. Out: what the same part of the other nodes sent. Messages
 * are best effort: they are lost, doubled or late at times, so a part keeps what must be right in a
 * table, or compares digests. Each node sends a heartbeat every second, which carries what the
 * parts add to it.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type * as SubscriptionRef from "effect/SubscriptionRef"

/**
 * A node. The incarnation is new at each start of its process.
 *
 * @category models
 * @since 0.1.0
 */
export interface Node {
  readonly name: string
  readonly incarnation: string
}

/**
 * Another node, as this one knows it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Neighbour extends Node {
  /** `silent`: no heartbeat for 3 s. It is forgotten after 60 s. */
  readonly state: "here" | "silent"
  /** Milliseconds since its last message, by the monotonic clock. */
  readonly heard: number
}

/**
 * What happened to another node: `appeared` also when it is heard again after a silence of 3 s; `silent`
 * after 3 s; `gone` after 60 s, after its goodbye, or when a new incarnation of the same name appears.
 *
 * @category models
 * @since 0.1.0
 */
export interface NodeChange {
  readonly change: "appeared" | "silent" | "gone"
  readonly node: Node
}

/**
 * `up`: the node hears its own probes. `down`: the bus has no connection. `deaf`: it has one, and three
 * probes of this node did not come back.
 *
 * @category models
 * @since 0.1.0
 */
export type BusState = "up" | "down" | "deaf"

/**
 * What one part of a node does with the messages of its topic. The functions must return soon and never
 * throw: all other parts wait for them.
 *
 * @category models
 * @since 0.1.0
 */
export interface Part {
  /** Receives what the same part of another node sent. The content is JSON of any shape. */
  readonly receive: (content: unknown, from: Node) => void
  /** What this part adds to the next heartbeat; `undefined` for nothing. */
  readonly beat?: (() => Schema.Json | undefined) | undefined
  /** Receives what the same part added to a heartbeat of another node. */
  readonly heard?: ((content: unknown, from: Node) => void) | undefined
  /** Receives the changes of other nodes; at first `appeared` for each node that is here. */
  readonly changed?: ((change: NodeChange) => void) | undefined
}

/**
 * Sends to the same part of all other nodes, or of one. Returns at once: messages of 50 ms travel together.
 * Up to 1 MiB (1,048,576 bytes) of JSON; the bus drops and logs a larger message (`MessageTooLarge`). It cuts
 * what fits into no envelope (over PostgreSQL about 5 KiB), and a lost piece loses the message: keep to the
 * size of an envelope where you can. While 8 MiB wait to be sent, further messages are dropped.
 *
 * @category models
 * @since 0.1.0
 */
export type Send = (content: Schema.Json, to?: Node) => void

/**
 * A message of a part is too large for the bus, which dropped it, counted it and logged this.
 *
 * @category errors
 * @since 0.1.0
 */
export class MessageTooLarge extends Schema.TaggedError<MessageTooLarge>()("MessageTooLarge", {
  topic: Schema.String,
  bytes: Schema.Int,
  limit: Schema.Int
}) {
  override get message(): string {
    return `A message on the topic "${this.topic}" of the bus has ${this.bytes} bytes of JSON, at most ${this.limit} fit. It was dropped. Send it in parts.`
  }
}

/**
 * Two parts of one node joined the same topic. Two `Realtime` over one bus do: the second one does not start.
 *
 * @category errors
 * @since 0.1.0
 */
export class TopicTaken extends Schema.TaggedError<TopicTaken>()("TopicTaken", {
  topic: Schema.String
}) {
  override get message(): string {
    return `The topic "${this.topic}" of the bus has a part already: two Realtime, or two servers with control, share one bus. Give each a bus of its own, such as Layer.fresh(PgNodeBus.layer()): each is then a node.`
  }
}

/**
 * The bus of a node.
 *
 * @category services
 * @since 0.1.0
 */
export class NodeBus extends Context.Service<
  NodeBus,
  {
    /** This node. */
    readonly self: Node
    /** Joins a topic until the scope closes. A topic has one part: a second one fails with `TopicTaken`. */
    readonly join: (topic: string, part: Part) => Effect.Effect<Send, TopicTaken, Scope.Scope>
    /** The other nodes that are not forgotten. */
    readonly nodes: Effect.Effect<ReadonlyArray<Neighbour>>
    /**
     * A secret that all nodes of the database share, and that never changes, also when that of the bus does.
     * Completes when the node has read it once.
     */
    readonly secret: Effect.Effect<Redacted.Redacted>
    /** Whether messages arrive now. */
    readonly state: SubscriptionRef.SubscriptionRef<BusState>
  }
>()("effect-realtime/server/NodeBus") {}
