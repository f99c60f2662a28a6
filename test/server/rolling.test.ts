/**
 * A rolling deploy: the database is upgraded while a node of version 2 runs on. The node is the
 * library as it was packed then.
 */
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Layer, Logger, Queue, Schema, Stream, SubscriptionRef } from "effect"
import { randomBytes } from "node:crypto"
import * as Channel from "../../src/Channel.ts"
import { schemaVersion } from "../../src/server/internal/sql/schema.ts"
import * as OutboxReader from "../../src/server/OutboxReader.ts"
import * as PgInstaller from "../../src/server/PgInstaller.ts"
import * as PgNotificationSource from "../../src/server/PgNotificationSource.ts"
import * as Realtime from "../../src/server/Realtime.ts"
import { execute, layerDatabase, serverUrl } from "../support/database.ts"
import { quick } from "./support/durable.ts"
import { version2 } from "./support/version2.ts"

const Orders = Channel.tableUpdates("orders", Schema.Struct({ id: Schema.Int }), {
  delivery: "durable"
})

const layerNew = Realtime.layer().pipe(
  Layer.provideMerge([PgNotificationSource.layer(), OutboxReader.layer(quick)])
)

describe("An upgrade under a node of version 2", () => {
  it.live("an upgrade stops the durable channels of an old node, and a new node serves", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const old = yield* version2
      const node = `node_${randomBytes(4).toString("hex")}`
      // After the database is dropped, in which the role has rights.
      yield* Effect.addFinalizer(() => Effect.ignore(execute(serverUrl(), `drop role ${node}`)))
      const warnings = yield* Queue.unbounded<string>()
      yield* sql`create table orders (id int primary key)`
      // A short retention: a node reads the settings a hundred times in it.
      yield* old.PgInstaller.install({ retention: "5 seconds", roles: { node } })
      yield* old.PgInstaller.watch({ channel: Orders })
      yield* Effect.gen(function* () {
        const reader = yield* old.OutboxReader.OutboxReader
        const told = yield* Queue.unbounded<string>()
        yield* reader.batches(Orders.name).pipe(
          Stream.runForEach((item) => Queue.offer(told, item.cursor)),
          Effect.forkChild
        )
        yield* Queue.take(told)
        yield* sql`insert into orders values (1)`
        const cursor = yield* Queue.take(told)

        yield* PgInstaller.install({ retention: "1 hour" })
        yield* SubscriptionRef.changes(reader.state).pipe(
          Stream.takeUntil((state) => state === "down"),
          Stream.runDrain
        )
        const warning = yield* Queue.take(warnings)
        expect(warning).toContain(`version ${schemaVersion}`)
        expect(warning).toContain("was made for version 2")

        // The old node goes on publishing, and its restart leaves the newer objects as they are.
        yield* old.PgInstaller.install({ retention: "5 seconds", roles: { node } })
        yield* old.PgInstaller.watch({ channel: Orders })
        yield* reader.publish("room", "1")
        expect(yield* sql`select version from realtime.settings`).toEqual([
          { version: schemaVersion }
        ])

        yield* Effect.gen(function* () {
          const events = yield* Queue.unbounded<string>()
          yield* Realtime.events(Orders, { from: cursor }).pipe(
            Stream.runForEach((event) =>
              Queue.offer(events, event._tag === "Gap" ? event.reason : `${event.payload.data.id}`)
            ),
            Effect.forkChild
          )
          // A cursor of version 2 is a gap, and never a silent hole.
          expect(yield* Queue.take(events)).toBe("source")
          yield* sql`insert into orders values (2)`
          expect(yield* Queue.take(events)).toBe("2")
        }).pipe(Effect.provide(layerNew))
        expect(yield* SubscriptionRef.get(reader.state)).toBe("down")
      }).pipe(
        Effect.provide(
          old.OutboxReader.layer(quick) as Layer.Layer<
            OutboxReader.OutboxReader,
            never,
            PgClient.PgClient
          >
        ),
        Effect.provide(
          Logger.layer([
            Logger.make(({ message }) => {
              const text = [message].flat().join(" ")
              if (text.includes("reader of the outbox is down")) Queue.offerUnsafe(warnings, text)
            })
          ])
        )
      )
    }).pipe(Effect.provide(layerDatabase), Effect.scoped)
  )
})
