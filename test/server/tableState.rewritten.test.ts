/**
 * A state that waits for the lock of a statement which gives its table new files: under the snapshot that
 * the state has taken, those have no rows.
 */
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Fiber, Schema } from "effect"
import * as Channel from "../../src/Channel.ts"
import * as PgInstaller from "../../src/server/PgInstaller.ts"
import { OutboxReader } from "../../src/server/OutboxReader.ts"
import { layerReader, session } from "./support/durable.ts"

const Doc = Schema.Struct({ id: Schema.Int, n: Schema.Union([Schema.Int, Schema.String]) })
const Docs = Channel.table("docs", Doc, { key: "id" })
const Parts = Channel.table("parts", Doc, { key: "id" })
const limits = { rows: 1000, bytes: 1_000_000 }

const tables = [
  "create table docs (id int primary key, n int)",
  "create table parts (id int primary key, n int) partition by range (id)",
  "create table parts_low partition of parts for values from (0) to (3)",
  "create table parts_high partition of parts for values from (3) to (9) partition by range (id)",
  "create table parts_top partition of parts_high for values from (3) to (9)"
]
const five = (table: string) => `insert into ${table} select i, i from generate_series(1, 5) i`

describe("The state of a table that is rewritten while the state waits", () => {
  it.live("has the rows that are there afterwards, also of partitions and of heirs", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      for (const statement of tables) yield* sql.unsafe(statement)
      yield* PgInstaller.watch(Docs)
      yield* PgInstaller.watch(Parts)
      yield* sql.unsafe(five("docs"))
      yield* sql.unsafe(five("parts"))
      yield* sql`create table docs_more () inherits (docs)`
      yield* sql`insert into docs_more values (6, 6)`
      const { rows } = yield* OutboxReader
      const waiting = sql`select from pg_stat_activity where datname = current_database()
        and wait_event_type = 'Lock' and query like '%from realtime.state(%'`
      for (const [{ table }, ids, statements] of [
        [Docs, "1,2,3,4,5,6", ["alter table docs alter column n type bigint"]],
        [Docs, "1,2,3,4,5,6", ["truncate only docs", five("docs")]],
        [Docs, "1,2,3,4,5,7", ["truncate docs_more", "insert into docs_more values (7, 7)"]],
        [Parts, "1,2,3,4,5", ["truncate parts", five("parts")]],
        [Parts, "2,3,4,5", ["truncate parts_low", "insert into parts values (2, 2)"]],
        [Parts, "2,4", ["truncate parts_top", "insert into parts values (4, 4)"]]
      ] as const) {
        const db = yield* session
        yield* db.query("begin")
        for (const statement of statements) yield* db.query(statement)
        const state = yield* rows!({
          channel: table.channel,
          table,
          filter: undefined,
          limits
        }).pipe(Effect.forkChild({ startImmediately: true }))
        yield* Effect.repeat(waiting, { until: (found) => found.length === 1 })
        yield* db.query("commit")
        const found = (yield* Fiber.join(state)).rows.map(
          (text) => JSON.parse(text) as typeof Doc.Type
        )
        expect([statements[0], found.map(({ id }) => id).join()]).toEqual([statements[0], ids])
      }
    }).pipe(Effect.scoped, Effect.provide(layerReader({ wake: "poll" })))
  )
})
