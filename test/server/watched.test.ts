/**
 * Channels with a delivery different from that of their watched table: a warning, because nothing
 * else would show it.
 */
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Layer, Logger, Queue, Redacted, Schema, Stream } from "effect"
import { randomBytes } from "node:crypto"
import * as Channel from "../../src/Channel.ts"
import { looking, tables } from "../../src/server/internal/link/watched.ts"
import * as Door from "../../src/server/internal/door/door.ts"
import { allowAll } from "../../src/server/ServerOptions.ts"
import * as OutboxReader from "../../src/server/OutboxReader.ts"
import * as PgInstaller from "../../src/server/PgInstaller.ts"
import * as PgNotificationSource from "../../src/server/PgNotificationSource.ts"
import { hubOf } from "../../src/server/internal/hub/ofRealtime.ts"
import * as Realtime from "../../src/server/Realtime.ts"
import { execute, layerDatabase, TestDatabase } from "../support/database.ts"
import { layerInstalled } from "./support/durable.ts"

const Row = Schema.Struct({ id: Schema.Int })
const live = (table: string) => Channel.tableUpdates(table, Row)
const durable = (table: string) => Channel.tableUpdates(table, Row, { delivery: "durable" })

const layerRealtime = Realtime.layer({ linger: 0 }).pipe(
  Layer.provide([PgNotificationSource.layer(), OutboxReader.layer()])
)

/** Runs with a hub over watched tables, and with the warnings that are logged. */
const warned = <A, E, R>(
  channels: ReadonlyArray<Table>,
  body: (warnings: Queue.Dequeue<string>) => Effect.Effect<A, E, R | Realtime.Realtime>
) =>
  Effect.gen(function* () {
    const warnings = yield* Queue.unbounded<string>()
    yield* watch(...channels)
    return yield* body(warnings).pipe(
      Effect.provide(layerRealtime),
      Effect.provide(
        Logger.layer([
          Logger.make(({ logLevel, message }) => {
            if (logLevel === "Warn") Queue.offerUnsafe(warnings, [message].flat().join(" "))
          })
        ])
      )
    )
  }).pipe(Effect.provide(layerInstalled()))

type Table = ReturnType<typeof live> | ReturnType<typeof durable>

/** As the server does for a client that subscribes and leaves. */
const openedBy = (realtime: Realtime.Realtime["Service"]) => (channel: Table) =>
  Effect.scoped(hubOf(realtime).deliveryOf(channel).open(channel))

const open = (channel: Table) => Effect.forkChild(Stream.runDrain(Realtime.events(channel)))

const watch = (...channels: ReadonlyArray<Table>) =>
  Effect.forEach(channels, (channel, index) =>
    PgClient.PgClient.use((sql) =>
      Effect.gen(function* () {
        const table = `t${index + 1}`
        yield* sql`create table ${sql(table)} (id int primary key)`
        yield* PgInstaller.watch({ channel, table })
      })
    )
  )

describe("A channel with another delivery than its watched table", () => {
  it.live("a live channel of a table watched durable warns once; a right one does not", () =>
    warned([durable("t1"), live("t2"), durable("t3")], (warnings) =>
      Effect.gen(function* () {
        const opened = openedBy(yield* Realtime.Realtime)
        yield* opened(live("t1"))
        const warning = yield* Queue.take(warnings)
        expect(warning).toContain(`Changes of table t1 do not reach the live channel`)
        expect(warning).toContain(`"table_updates_t1"`)
        expect(warning).toContain("is watched with delivery durable")
        expect(warning).toContain(`Define the channel with { delivery: "durable" }`)
        for (const table of ["t1", "t2"]) yield* opened(live(table))
        yield* open(live("t3"))
        expect(yield* Queue.take(warnings)).toContain(`live channel "table_updates_t3"`)
      })
    )
  )

  it.live("a durable channel of a table watched live warns once; a right one does not", () =>
    warned([live("t1"), durable("t2"), live("t3")], (warnings) =>
      Effect.gen(function* () {
        const opened = openedBy(yield* Realtime.Realtime)
        yield* opened(durable("t1"))
        const warning = yield* Queue.take(warnings)
        expect(warning).toContain(`Changes of table t1 do not reach the durable channel`)
        expect(warning).toContain("is watched with delivery live")
        expect(warning).toContain(`Define the channel with { delivery: "live" }`)
        for (const table of ["t1", "t2"]) yield* opened(durable(table))
        yield* open(durable("t3"))
        expect(yield* Queue.take(warnings)).toContain(`durable channel "table_updates_t3"`)
      })
    )
  )

  for (const delivery of ["live", "durable"] as const) {
    it.live(`a ${delivery} channel of a table that is not watched warns once`, () =>
      warned([live("t1")], (warnings) =>
        Effect.gen(function* () {
          const realtime = yield* Realtime.Realtime
          const of = delivery === "live" ? live : durable
          for (let k = 0; k < 2; k++) yield* openedBy(realtime)(of("nobody"))
          // As a server does for each of its channels when it starts.
          const somebody = of("somebody")
          yield* hubOf(realtime).deliveryOf(somebody).checkTable(somebody)
          const told = yield* Queue.takeN(warnings, 2)
          expect(told.toSorted()).toEqual([
            expect.stringContaining(`${delivery} channel "table_updates_nobody"`),
            expect.stringContaining(`${delivery} channel "table_updates_somebody"`)
          ])
          expect(told[0]).toContain("npx effect-realtime sql --watch")
        })
      )
    )
  }

  it.live("a server that starts with a wrong channel warns at once", () =>
    warned([live("t1")], (warnings) =>
      Effect.gen(function* () {
        const channels = [live("t1"), durable("t1"), live("nobody"), Channel.allTableUpdates]
        yield* Door.make({ channels: channels.slice(1), authorize: allowAll })
        const told = yield* Queue.takeN(warnings, 2)
        expect(told.toSorted()).toEqual([
          expect.stringContaining("Changes of table t1 do not reach the durable channel"),
          expect.stringContaining(`No table is watched for the live channel "table_updates_nobody"`)
        ])
      }).pipe(Effect.scoped)
    )
  )

  it.live("a node warns when a watched table is dropped", () =>
    warned([durable("t1")], (warnings) =>
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        yield* sql`drop table t1`
        yield* Effect.scoped(looking(sql))
        expect(yield* Queue.take(warnings)).toContain(
          `public.t1 is watched for channel "table_updates_t1", but the table is gone`
        )
      })
    )
  )

  it.live("reading the watched tables without install or right fails nothing", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      const user = `user_${randomBytes(4).toString("hex")}`
      yield* Effect.acquireRelease(execute(url, `create role ${user} login`), () =>
        Effect.orDie(execute(url, `drop role ${user}`))
      )
      const there = new URL(url)
      there.username = user
      const asUser = PgClient.layer({ url: Redacted.make(there.href) })
      const look = PgClient.PgClient.use((sql) => tables(sql))
      expect(yield* look).toBeUndefined()
      yield* PgInstaller.install()
      yield* watch(durable("t1"))
      expect(yield* look).toEqual([
        {
          channel: "table_updates_t1",
          table: "t1",
          delivery: "durable",
          rel: expect.any(Number),
          definition: {
            always: false,
            columns: null,
            delete: null,
            delivery: "durable",
            insert: null,
            key: ["id"],
            level: "row",
            max_bytes: 8_388_608,
            old: false,
            update: null
          }
        }
      ])
      expect(yield* Effect.provide(look, asUser)).toBeUndefined()
    }).pipe(Effect.scoped, Effect.provide(layerDatabase))
  )
})
