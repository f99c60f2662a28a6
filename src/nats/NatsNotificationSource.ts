/**
 * The source of live channels where nodes have NATS: one node listens for all.
 *
 * It stands above the `NotificationSource` of this node on PostgreSQL. One node, elected by a lease of the
 * database, listens to the channels that others ask for, and sends them each notification once. So a
 * notification wakes one session of PostgreSQL, whatever the number of nodes. A node that hears no such
 * node, or no NATS, listens by itself. Each change between the two is a `gap source`, like the loss of a
 * link, and a subscriber is confirmed when the node that listens for it has confirmed LISTEN.
 *
 * @since 0.1.0
 */
import { PgClient } from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import type { BusForbidden } from "../server/internal/bus/busErrors.ts"
import * as DatabaseKeys from "../server/internal/bus/databaseKeys.ts"
import { SchemaName } from "../server/internal/sql/schemaName.ts"
import { NotificationSource } from "../server/NotificationSource.ts"
import { OutboxReader } from "../server/OutboxReader.ts"
import type { NotInstalled, OutdatedInstall } from "../server/PgInstaller.ts"
import type { NatsDeaf, NatsForbidden } from "./internal/connectionErrors.ts"
import * as LiveSource from "./internal/liveSource.ts"
import * as Sealed from "./internal/sealed.ts"
import { liveSubjects } from "./internal/subjects.ts"
import { NatsConnection } from "./NatsConnection.ts"

/**
 * Why live channels cannot use NATS.
 *
 * @category errors
 * @since 0.1.0
 */
export type StartError = BusForbidden | NatsDeaf | NatsForbidden | NotInstalled | OutdatedInstall

/**
 * Makes the source above the one of this node. Where the context has an `OutboxReader`, whose leases elect,
 * this node may be the one that listens for all.
 *
 * Fails with `NatsForbidden` or `NatsDeaf`, within 2 s, when the account of the node may not use one of the
 * subjects; with `NotInstalled` or `OutdatedInstall` when the objects are missing or of an earlier version; and
 * with `BusForbidden` when the role may not read the secret, with which all of it is encrypted and signed.
 * Later it fails never.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make: Effect.Effect<
  NotificationSource["Service"],
  StartError,
  NatsConnection | NotificationSource | PgClient | Scope.Scope
> = Effect.gen(function* () {
  const connection = yield* NatsConnection
  const schema = yield* SchemaName
  const inner = yield* NotificationSource
  const reader = Option.getOrUndefined(yield* Effect.serviceOption(OutboxReader))
  const keys = yield* DatabaseKeys.make(yield* PgClient)
  const sealed = yield* Sealed.make(connection, schema, keys)
  const at = sealed.prefix()
  if (at !== undefined) yield* connection.prove(liveSubjects(at))
  return yield* LiveSource.make({ inner, sealed, lease: reader?.lease })
})

/**
 * The source of this node, above that of PostgreSQL.
 *
 * **Example** (One node listens for all)
 *
 * ```ts
 * const Source = NatsNotificationSource.layer.pipe(Layer.provide(PgNotificationSource.layer()))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<
  NotificationSource,
  StartError,
  NatsConnection | NotificationSource | PgClient
> = Layer.effect(NotificationSource, make)
