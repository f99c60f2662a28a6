/** Watched tables in corners where random ones were first caught. */
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import * as PgInstaller from "../../src/server/PgInstaller.ts"
import { layerInstalled } from "./support/durable.ts"

const told = PgClient.PgClient.use(
  (sql) => sql<{ readonly payload: string }>`select payload from realtime.messages order by id`
).pipe(Effect.map((rows) => rows.map(({ payload }) => JSON.parse(payload) as unknown)))

describe("a watched table", () => {
  it.live("may name the columns of its key as its triggers name theirs", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      yield* sql`create table steps (op int, d int, k int, there int, n int not null default 0, primary key (op, d, k, there))`
      yield* sql`create function again() returns trigger language plpgsql as
        $$ begin update steps set n = n + 1 where op = new.op and n < 2; return null; end $$`
      yield* sql`create trigger again after insert or update on steps for each row execute function again()`
      yield* PgInstaller.watch({
        channel: "table_updates_steps",
        delivery: "durable",
        level: "statement"
      })
      yield* sql`insert into steps values (1, 2, 3, 4), (2, 2, 3, 4)`
      const rows = yield* told
      const key = (op: number) => ({ op, d: 2, k: 3, there: 4 })
      for (const op of [1, 2]) {
        expect(
          rows.findLast((row) => (row as { readonly key: { readonly op: number } }).key.op === op)
        ).toMatchObject({ data: { ...key(op), n: 2 }, key: key(op) })
      }
    }).pipe(Effect.provide(layerInstalled()))
  )

  for (const level of ["row", "statement"] as const) {
    it.live(
      `at ${level} level tells a column that was added since, also beside one that it cannot read`,
      () =>
        Effect.gen(function* () {
          const sql = yield* PgClient.PgClient
          const [server] = yield* sql<{ readonly number: number }>`
            select current_setting('server_version_num')::int number`
          // Before version 18 every generated column is stored.
          const virtual =
            server!.number < 180_000 ? "" : ", v int generated always as (n * 3) virtual"
          yield* sql.unsafe(`create table sums (id int primary key, n int${virtual})`)
          yield* PgInstaller.watch({ channel: "table_updates_sums", delivery: "durable", level })
          yield* sql`alter table sums add column late text`
          yield* sql`insert into sums values (1, 1)`
          yield* sql`update sums set late = 'here'`
          yield* sql`delete from sums`
          expect(yield* told).toEqual([
            { operation: "INSERT", data: { id: 1, n: 1, late: null }, key: { id: 1 } },
            { operation: "UPDATE", data: { id: 1, n: 1, late: "here" }, key: { id: 1 } },
            { operation: "DELETE", data: { id: 1, n: 1, late: "here" }, key: { id: 1 } }
          ])
        }).pipe(Effect.provide(layerInstalled()))
    )
  }
})
