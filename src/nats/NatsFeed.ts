/**
 * Reading once over NATS: one node reads the outbox and sends each tick to the others.
 *
 * It needs no storage of NATS. Whatever NATS loses, doubles or reorders, each node reads from the outbox,
 * and while NATS is away each node reads for itself. So NATS may be lost at any time.
 *
 * @since 0.1.0
 */
import { PgClient } from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as SubscriptionRef from "effect/SubscriptionRef"
import { FeedCarrier, type Feed } from "../server/FeedCarrier.ts"
import { identityOf } from "../server/internal/outbox/poolIdentity.ts"
import { objects } from "../server/internal/sql/objects.ts"
import { SchemaName } from "../server/internal/sql/schemaName.ts"
import type { NatsDeaf, NatsForbidden } from "./internal/connectionErrors.ts"
import { channelToken, prefixOf } from "./internal/subjects.ts"
import { NatsConnection } from "./NatsConnection.ts"

/**
 * Why a node cannot be fed over NATS.
 *
 * @category errors
 * @since 0.1.0
 */
export type StartError = NatsDeaf | NatsForbidden

/** Bytes that a header of the library may take beside a text. */
const headRoom = 256

/** The bytes are a part of a larger buffer, which the connection uses again. */
const textOf = (data: Uint8Array): string =>
  Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString()

/**
 * Makes the carrier of this node. Fails within 2 s with `NatsForbidden` or `NatsDeaf` when the account of the
 * node may not use the subjects of the feed. Where PostgreSQL or NATS cannot be reached now, it starts
 * without that proof, and the node reads for itself until ticks arrive.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make: Effect.Effect<
  FeedCarrier["Service"],
  StartError,
  NatsConnection | PgClient | Scope.Scope
> = Effect.gen(function* () {
  const connection = yield* NatsConnection
  const schema = yield* SchemaName
  const tickOf = (identity: string) => `${prefixOf(connection.root, identity, schema)}.tick`
  const pageOf = (identity: string, channel: string) =>
    `${prefixOf(connection.root, identity, schema)}.page.${channelToken(channel)}`

  const known = yield* identityOf(yield* objects(yield* PgClient))
  if (known !== undefined && known !== "") {
    // No channel of an application has this name.
    yield* connection.prove([tickOf(known), pageOf(known, "realtime")])
  }

  const join: FeedCarrier["Service"]["join"] = (identity, receiver) =>
    Effect.gen(function* () {
      const scope = yield* Effect.scope
      const pages = new Map<string, Scope.Closeable>()
      const tick = tickOf(identity)
      yield* connection.subscribe(tick, (data) => receiver.tick(textOf(data)))
      return {
        isUp: () => SubscriptionRef.getUnsafe(connection.state) === "up",
        maxBytes: () => connection.maxPayload() - headRoom,
        sendTick: (text) => void connection.publish(tick, text),
        sendPage: (channel, text) => void connection.publish(pageOf(identity, channel), text),
        follow: (channel) => {
          if (pages.has(channel)) return
          const own = Scope.forkUnsafe(scope)
          pages.set(channel, own)
          const hear = (data: Uint8Array) => receiver.page(textOf(data))
          Effect.runSync(Scope.provide(connection.subscribe(pageOf(identity, channel), hear), own))
        },
        leave: (channel) => {
          const own = pages.get(channel)
          pages.delete(channel)
          if (own !== undefined) Effect.runSync(Scope.close(own, Exit.void))
        }
      } satisfies Feed
    })
  return FeedCarrier.of({ join })
})

/**
 * The carrier of this node, beneath `OutboxReader.layer`.
 *
 * **Example** (One node reads for all)
 *
 * ```ts
 * const Reader = OutboxReader.layer().pipe(
 *   Layer.provide(NatsFeed.layer),
 *   Layer.provide(NatsConnection.layer({ servers: ["nats-1:4222", "nats-2:4222"] }))
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<FeedCarrier, StartError, NatsConnection | PgClient> = Layer.effect(
  FeedCarrier,
  make
)
