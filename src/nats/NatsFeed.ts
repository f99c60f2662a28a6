/**
 * Reading once over NATS: one node reads the outbox and sends each tick to the others.
 *
 * It needs no storage of NATS. Whatever NATS loses, doubles or reorders, each node reads from the outbox,
 * and while NATS is away each node reads for itself. So NATS may be lost at any time. What nodes send is
 * encrypted and signed with the secret of the bus, so that NATS reads no payload and can forge none.
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
import type { BusForbidden } from "../server/internal/bus/busErrors.ts"
import * as DatabaseKeys from "../server/internal/bus/databaseKeys.ts"
import { SchemaName } from "../server/internal/sql/schemaName.ts"
import type { NotInstalled, OutdatedInstall } from "../server/PgInstaller.ts"
import type { NatsDeaf, NatsForbidden } from "./internal/connectionErrors.ts"
import * as Sealed from "./internal/sealed.ts"
import { channelToken, prefixOf } from "./internal/subjects.ts"
import { NatsConnection } from "./NatsConnection.ts"

/**
 * Why a node cannot be fed over NATS.
 *
 * @category errors
 * @since 0.1.0
 */
export type StartError = BusForbidden | NatsDeaf | NatsForbidden | NotInstalled | OutdatedInstall

/**
 * Makes the carrier of this node. Fails within 2 s with `NatsForbidden` or `NatsDeaf` when the account of the
 * node may not use the subjects of the feed; with `NotInstalled` or `OutdatedInstall` when the objects are
 * missing or of an earlier version; and with `BusForbidden` when the role may not read the secret. Where PostgreSQL or NATS cannot be reached now, it starts
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

  const sealed = yield* Sealed.make(connection, schema, yield* DatabaseKeys.make(yield* PgClient))
  const known = sealed.identity()
  if (known !== undefined) {
    // No channel of an application has this name.
    yield* connection.prove([tickOf(known), pageOf(known, "realtime")])
  }

  const join: FeedCarrier["Service"]["join"] = (identity, receiver) =>
    Effect.gen(function* () {
      const scope = yield* Effect.scope
      const pages = new Map<string, Scope.Closeable>()
      const tick = tickOf(identity)
      // The objects were installed anew.
      if (sealed.identity() !== identity) yield* sealed.again
      yield* sealed.subscribe(tick, receiver.tick)
      return {
        isUp: () => SubscriptionRef.getUnsafe(sealed.state) === "up",
        maxBytes: sealed.maxBytes,
        sendTick: (text) => void sealed.publish(tick, text),
        sendPage: (channel, text) => void sealed.publish(pageOf(identity, channel), text),
        follow: (channel) => {
          if (pages.has(channel)) return
          const own = Scope.forkUnsafe(scope)
          pages.set(channel, own)
          const page = pageOf(identity, channel)
          Effect.runSync(Scope.provide(sealed.subscribe(page, receiver.page), own))
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
