/** A channel and its table that differ in how changes are delivered: told, because nothing else would. */
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Logger, Queue, Redacted, Schema, Stream } from "effect"
import { randomBytes } from "node:crypto"
import * as Channel from "../../src/Channel.ts"
import { differing } from "../../src/server/internal/watched.ts"
import * as OutboxReader from "../../src/server/OutboxReader.ts"
import * as PgInstaller from "../../src/server/PgInstaller.ts"
import * as PgNotificationSource from "../../src/server/PgNotificationSource.ts"
import { Realtime } from "../../src/server/Realtime.ts"
import { execute, layerDatabase, TestDatabase } from "../support/database.ts"
import { layerInstalled } from "./support/durable.ts"

const Row = Schema.Struct({ id: Schema.Int })
const live = (table: string) => Channel.tableUpdates(table, Row)
const durable = (table: string) => Channel.tableUpdates(table, Row, { delivery: "durable" })

const layerRealtime = Realtime.layer({ linger: 0 }).pipe(
  Layer.provide([PgNotificationSource.layer(), OutboxReader.layer()])
)

/** Runs with a hub, and with the warnings that are logged. */
const warned = <A, E, R>(
  body: (warnings: Queue.Dequeue<string>) => Effect.Effect<A, E, R | Realtime>
) =>
  Effect.flatMap(Queue.unbounded<string>(), (warnings) =>
    body(warnings).pipe(
      Effect.provide(layerRealtime),
      Effect.provide(
        Logger.layer([
          Logger.make(({ logLevel, message }) => {
            if (logLevel === "Warn") Queue.offerUnsafe(warnings, [message].flat().join(" "))
          })
        ])
      )
    )
  )

const open = (channel: ReturnType<typeof live>) =>
  Effect.forkChild(Stream.runDrain(Realtime.events(channel)))

const watch = (...channels: ReadonlyArray<ReturnType<typeof live>>) =>
  Effect.forEach(channels, (channel, index) =>
    PgClient.PgClient.use((sql) =>
      Effect.gen(function* () {
        const table = `t${index + 1}`
        yield* sql`create table ${sql(table)} (id int primary key)`
        yield* PgInstaller.watch({ channel, table })
      })
    )
  )

describe("a channel whose table is watched with another delivery", () => {
  it.live("live: is warned of once, with the cure; one that agrees is not", () =>
    warned((warnings) =>
      Effect.gen(function* () {
        yield* watch(durable("t1"), live("t2"), durable("t3"))
        const first = yield* open(live("t1"))
        const warning = yield* Queue.take(warnings)
        expect(warning).toContain(`Changes of table t1 do not reach the live channel`)
        expect(warning).toContain(`"table_updates_t1"`)
        expect(warning).toContain("is watched with delivery durable")
        expect(warning).toContain(`Define the channel with { delivery: "durable" }`)
        yield* Fiber.interrupt(first)
        for (const table of ["t1", "t2", "t3"]) yield* open(live(table))
        expect(yield* Queue.take(warnings)).toContain(`live channel "table_updates_t3"`)
      })
    ).pipe(Effect.provide(layerInstalled()))
  )

  it.live("durable: the same, also for a consumer of its own", () =>
    warned((warnings) =>
      Effect.gen(function* () {
        yield* watch(live("t1"), durable("t2"), live("t3"))
        const first = yield* open(durable("t1"))
        const warning = yield* Queue.take(warnings)
        expect(warning).toContain(`Changes of table t1 do not reach the durable channel`)
        expect(warning).toContain("is watched with delivery live")
        expect(warning).toContain(`Define the channel with { delivery: "live" }`)
        yield* Fiber.interrupt(first)
        for (const table of ["t1", "t2", "t3"]) yield* open(durable(table))
        expect(yield* Queue.take(warnings)).toContain(`durable channel "table_updates_t3"`)
      })
    ).pipe(Effect.provide(layerInstalled()))
  )

  it.live("is looked for without an error where nothing is installed, or may not be read", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      const names = ["table_updates_t1"]
      const user = `user_${randomBytes(4).toString("hex")}`
      yield* Effect.acquireRelease(execute(url, `create role ${user} login`), () =>
        Effect.orDie(execute(url, `drop role ${user}`))
      )
      const there = new URL(url)
      there.username = user
      const asUser = PgClient.layer({ url: Redacted.make(there.href) })
      const sql = yield* PgClient.PgClient
      expect(yield* differing(sql, names, "live")).toEqual([])
      yield* PgInstaller.install()
      yield* watch(durable("t1"))
      expect(yield* differing(sql, names, "live")).toEqual([
        { channel: names[0], table: "t1", delivery: "durable" }
      ])
      expect(
        yield* PgClient.PgClient.use((sql) => differing(sql, names, "live")).pipe(
          Effect.provide(asUser)
        )
      ).toEqual([])
    }).pipe(Effect.scoped, Effect.provide(layerDatabase))
  )
})
