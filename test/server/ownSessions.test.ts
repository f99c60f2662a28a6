/** The sessions that a node has at PostgreSQL beside its pool, as `examples/cluster/README.md` lists them. */
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Layer, Schedule } from "effect"
import * as NatsBus from "../../src/nats/NatsBus.ts"
import * as NatsConnection from "../../src/nats/NatsConnection.ts"
import * as NatsFeed from "../../src/nats/NatsFeed.ts"
import type { NotificationSource } from "../../src/server/NotificationSource.ts"
import * as OutboxReader from "../../src/server/OutboxReader.ts"
import * as PgNodeBus from "../../src/server/PgNodeBus.ts"
import * as PgNotificationSource from "../../src/server/PgNotificationSource.ts"
import * as Realtime from "../../src/server/Realtime.ts"
import { layerInstalledDatabase } from "../support/database.ts"
import { executablePath, natsServer } from "../support/natsServer.ts"

/** Waits until the node has these sessions; fails with those that it has after 10 s. */
const has = (...names: ReadonlyArray<string>) =>
  PgClient.PgClient.use(
    (sql) =>
      sql<{ readonly name: string }>`select application_name as name from pg_stat_activity
        where datname = current_database() and application_name like 'effect-realtime %' order by 1`
  ).pipe(
    Effect.map((rows) => rows.map(({ name }) => name.replace("effect-realtime ", ""))),
    Effect.repeat({
      until: (found) => found.join() === names.join(),
      schedule: Schedule.spaced(20).pipe(Schedule.upTo({ duration: "10 seconds" }))
    }),
    Effect.map((found) => expect(found).toEqual(names))
  )

const source = PgNotificationSource.layer()
const reader = OutboxReader.layer()

describe("A node has at PostgreSQL, beside its pool,", () => {
  it.live(
    "a link, with durable channels a reader, and with the bus over PostgreSQL one that sends",
    () =>
      Effect.gen(function* () {
        const node = <E>(beneath: Layer.Layer<NotificationSource, E, PgClient.PgClient>) =>
          Realtime.layer().pipe(Layer.provide(beneath))
        yield* Effect.provide(has("link"), node(source))
        yield* Effect.provide(has("link", "reader"), node(Layer.merge(source, reader)))
        const joined = Layer.merge(PgNodeBus.layer(), reader).pipe(Layer.provideMerge(source))
        yield* Effect.provide(has("bus", "link", "reader"), node(joined))
      }).pipe(Effect.provide(layerInstalledDatabase))
  )

  it.live.skipIf(executablePath === undefined)("none for a bus over NATS", () =>
    Effect.gen(function* () {
      const { address } = yield* natsServer()
      const connection = NatsConnection.layer({ servers: address })
      const between = Layer.merge(NatsBus.layer(), NatsFeed.layer).pipe(Layer.provide(connection))
      const node = Realtime.layer().pipe(
        Layer.provide(Layer.merge(source, Layer.provideMerge(reader, between)))
      )
      yield* Effect.provide(has("link", "reader"), node)
    }).pipe(Effect.scoped, Effect.provide(layerInstalledDatabase))
  )
})
