/**
 * What joins the nodes of the class of `./node`, where it is not PostgreSQL alone: `Nats.nodes` of
 * `effect-realtime/nats` makes it. An Effect app composes the same layers by itself.
 *
 * @since 0.1.0
 */
import type { PgClient } from "@effect/sql-pg/PgClient"
import type * as Layer from "effect/Layer"
import type { FeedCarrier } from "./FeedCarrier.ts"
import type { NodeBus } from "./NodeBus.ts"
import type { NotificationSource } from "./NotificationSource.ts"

/**
 * Why a node cannot join the others. The class retries the start after each of them, except `InvalidOption`.
 *
 * @category errors
 * @since 0.1.0
 */
export interface StartError extends Error {
  readonly _tag: string
}

/**
 * The layers that join a node with others.
 *
 * @category models
 * @since 0.1.0
 */
export interface Nodes {
  /** The bus of the node. */
  readonly bus: Layer.Layer<NodeBus, StartError, PgClient>
  /** The carrier beneath the reader of the outbox. */
  readonly feed: Layer.Layer<FeedCarrier, StartError, PgClient>
  /** The source of live channels above that of PostgreSQL. */
  readonly source: Layer.Layer<NotificationSource, StartError, NotificationSource | PgClient>
}
