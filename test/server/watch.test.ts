/** Watching tables: one event per changed row, for every kind of row, table and statement. */
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Queue } from "effect"
import * as PgInstaller from "../../src/server/PgInstaller.ts"
import * as PgNotificationSource from "../../src/server/PgNotificationSource.ts"
import { layerInstalled } from "./support/durable.ts"
import { long } from "./support/random.ts"
import { listenTo } from "../support/listenTo.ts"

/** Watches into the outbox, where a test can read the events. */
const watch = (options: PgInstaller.Watch) => PgInstaller.watch({ delivery: "durable", ...options })

/** Runs SQL, and returns the events it wrote, in order. */
const changes = (...statements: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const sql = yield* PgClient.PgClient
    const last = yield* sql<{ readonly id: string }>`
      select coalesce(max(id), 0)::text id from realtime.messages`
    for (const statement of statements) yield* sql.unsafe(statement)
    const rows = yield* sql<{ readonly payload: string }>`
      select payload from realtime.messages m where m.id > ${last[0]!.id}::bigint order by m.id`
    return rows.map(({ payload }) => JSON.parse(payload) as unknown)
  })

const refusal = (options: PgInstaller.Watch) =>
  Effect.map(Effect.flip(watch(options)), (error) => [error._tag, error.message])

/** Both levels send the same events. */
const levels = ["row", "statement"] as const

describe("A watched table", () => {
  for (const level of levels) {
    it.live(`at ${level} level each changed row sends an event, and a rollback none`, () =>
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        yield* sql`create table orders (id int primary key, n numeric, at timestamptz, tags text[])`
        yield* watch({ channel: "table_updates_orders", level, old: true })
        expect(
          yield* changes(
            `insert into orders values (1, 1.50, '2026-01-01Z', '{a,b}'), (2, null, null, null)`,
            `update orders set n = n + 1 where id = 1`,
            `update orders set n = n`,
            `delete from orders where id = 1`,
            `delete from orders`
          )
        ).toMatchObject([
          { operation: "INSERT", data: { id: 1, n: 1.5, tags: ["a", "b"] }, key: { id: 1 } },
          { operation: "INSERT", data: { id: 2, n: null }, key: { id: 2 } },
          { operation: "UPDATE", data: { id: 1, n: 2.5 }, old: { id: 1, n: 1.5 }, key: { id: 1 } },
          { operation: "DELETE", data: { id: 1, n: 2.5 } },
          { operation: "DELETE", data: { id: 2 } }
        ])
        yield* sql
          .withTransaction(Effect.andThen(sql`insert into orders values (3)`, Effect.fail("no")))
          .pipe(Effect.ignore)
        expect(yield* changes(`delete from orders`)).toEqual([])
        // An upsert sends what it did.
        expect(
          yield* changes(
            `insert into orders values (4)`,
            `insert into orders values (4), (5) on conflict (id) do update set n = 9`
          )
        ).toMatchObject([
          { operation: "INSERT", key: { id: 4 } },
          { operation: "UPDATE", data: { n: 9 } },
          { operation: "INSERT", key: { id: 5 } }
        ])
      }).pipe(Effect.provide(layerInstalled()))
    )

    it.live(`at ${level} level 5 updates of a row in one transaction send 5 events`, () =>
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        yield* sql`create table orders (id int primary key, n int)`
        yield* sql`insert into orders values (1, 0)`
        yield* watch({ channel: "table_updates_orders", level })
        const five = Array.from({ length: 5 }, () => `update orders set n = n + 1`)
        const told = sql.withTransaction(changes(...five))
        expect(yield* told).toMatchObject([1, 2, 3, 4, 5].map((n) => ({ data: { n } })))
      }).pipe(Effect.provide(layerInstalled()))
    )

    it.live(
      `at ${level} level a changed key sends a DELETE of the old key and an INSERT of the new one`,
      () =>
        Effect.gen(function* () {
          const sql = yield* PgClient.PgClient
          yield* sql`create table parts (a int, b text, n int, primary key (b, a))`
          yield* watch({ channel: "table_updates_parts", level })
          expect(
            yield* changes(`insert into parts values (1, 'x', 0)`, `update parts set a = 2, n = 7`)
          ).toMatchObject([
            { operation: "INSERT", key: { a: 1, b: "x" } },
            { operation: "DELETE", data: { n: 0 }, key: { a: 1, b: "x" } },
            { operation: "INSERT", data: { n: 7 }, key: { a: 2, b: "x" } }
          ])
        }).pipe(Effect.provide(layerInstalled()))
    )

    it.live(`at ${level} level a watch keeps to its columns when one is renamed or dropped`, () =>
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        yield* sql`create table users (id int primary key, name text, secret text, "Of, fice" text)`
        yield* watch({ channel: "table_updates_users", level, columns: ["name", "Of, fice"] })
        expect(
          yield* changes(
            `insert into users values (1, 'a', 'hidden', 'o')`,
            `update users set secret = 'hidden too'`,
            `update users set name = 'b'`,
            `alter table users rename column name to label`,
            `alter table users rename column id to "key"`,
            `update users set label = 'c'`,
            `alter table users drop column "Of, fice"`,
            `update users set label = 'd', secret = 'hidden'`,
            `alter table users rename to people`,
            `delete from people`
          )
        ).toEqual([
          { operation: "INSERT", data: { name: "a", "Of, fice": "o" }, key: { id: 1 } },
          { operation: "UPDATE", data: { name: "b", "Of, fice": "o" }, key: { id: 1 } },
          { operation: "UPDATE", data: { label: "c", "Of, fice": "o" }, key: { key: 1 } },
          { operation: "UPDATE", data: { label: "d" }, key: { key: 1 } },
          { operation: "DELETE", data: { label: "d" }, key: { key: 1 } }
        ])
      }).pipe(Effect.provide(layerInstalled()))
    )

    it.live(`at ${level} level rows of 200 columns and of 2 MB arrive, larger ones as key`, () =>
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        const columns = Array.from(
          { length: 199 },
          (_, n) => `c${n} text default repeat('é', ${n})`
        )
        yield* sql.unsafe(`create table wide (id int primary key, ${columns.join(", ")})`)
        yield* watch({ channel: "table_updates_wide", level })
        const [wide] = yield* changes(`insert into wide (id) values (1)`)
        expect(Object.keys((wide as { data: object }).data)).toHaveLength(200)
        const [large] = yield* changes(`update wide set c0 = repeat('"x', 1000000)`)
        expect((large as { data: { c0: string } }).data.c0).toHaveLength(2_000_000)
        // Small when stored, but far over the limit; the long run takes more than JSON could hold.
        const bytes = long ? 600_000_000 : 10_000_000
        yield* sql`create table heavy (id int primary key, a text, b bytea, c int[])`
        yield* watch({ channel: "table_updates_heavy", level, old: true })
        expect(
          yield* changes(
            `insert into heavy values (1, repeat('x', 10000000), null, null)`,
            `update heavy set b = ('\\x' || repeat('00', 10))::bytea || convert_to(repeat('x', ${bytes}), 'UTF8')`,
            `update heavy set a = 'small', b = null`,
            `update heavy set a = 'smaller'`,
            `delete from heavy`
          )
        ).toMatchObject([
          { operation: "INSERT", data: { id: 1 }, key: { id: 1 }, truncated: true },
          { operation: "UPDATE", data: { id: 1 }, key: { id: 1 }, truncated: true },
          { operation: "UPDATE", data: { id: 1, a: "small" } },
          { operation: "UPDATE", data: { id: 1, a: "smaller" }, old: { a: "small" } },
          { operation: "DELETE", data: { id: 1, a: "smaller" } }
        ])
      }).pipe(Effect.provide(layerInstalled()))
    )

    it.live(`at ${level} level no value of a row fails its statement`, () =>
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        yield* sql`create type mood as enum ('fine', 'it''s "ok"')`
        yield* sql`create table odd (id text primary key, j json, f float8, d date, m mood, r int4range, n numeric)`
        yield* watch({
          channel: "table_updates_odd",
          level,
          columns: ["j", "f", "d", "m", "r", "n"]
        })
        const told = yield* changes(
          // Values that jsonb and the functions of json reject: NUL and half a surrogate pair, deep inside.
          String.raw`insert into odd values (E'\x01\u2028"\\', '{"a": "\u0000", "b": ["\ud800"], "n": 1e999999}', 'NaN', 'infinity', 'it''s "ok"', '[1,5)', 'NaN')`,
          String.raw`update odd set f = '-Infinity', j = '{"a": "\u0000"}'`
        )
        expect(told).toMatchObject([
          { data: { j: { a: "\u0000" }, f: "NaN", d: "infinity", m: `it's "ok"`, r: "[1,5)" } },
          { data: { f: "-Infinity", j: { a: "\u0000" } }, key: { id: '\u0001\u2028"\\' } }
        ])
      }).pipe(Effect.provide(layerInstalled()))
    )

    it.live(`at ${level} level a row over maxBytes by one byte is sent as its key`, () =>
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        yield* sql`create table notes (id int primary key, text text)`
        const frame = `{"operation":"INSERT","data":{"id":1,"text":""},"key":{"id":1}}`
        const maxBytes = frame.length + 10
        yield* watch({ channel: "table_updates_notes", level, maxBytes })
        expect(
          yield* changes(
            `insert into notes values (1, 'ééééé')`,
            `insert into notes values (2, 'éééééx')`
          )
        ).toEqual([
          { operation: "INSERT", data: { id: 1, text: "ééééé" }, key: { id: 1 } },
          { operation: "INSERT", data: { id: 2 }, key: { id: 2 }, truncated: true }
        ])
      }).pipe(Effect.provide(layerInstalled()))
    )

    it.live(`at ${level} level schema, table and columns may have any names`, () =>
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        const schema = `We "ird; \\schema's 100%`
        const name = `Or"der's;-- %s`
        const keys = ["Ke y %I", "k"]
        const texts = [
          "Va,l",
          "new",
          "old",
          "r",
          "o",
          "n",
          "key",
          "data",
          "i",
          "%",
          "%s",
          "$1",
          `"'`
        ]
        const quoted = (names: ReadonlyArray<string>) =>
          names.map((name) => `"${name.replaceAll(`"`, `""`)}"`)
        const table = { schema, name }
        const rows = quoted([schema, name]).join(".")
        yield* sql`create schema ${sql(schema)}`
        yield* sql`create type pair as (x int, k int)`
        yield* sql.unsafe(
          `create table ${rows} (x pair, ${quoted(keys).join(" int, ")} int, ${quoted(texts).join(" text, ")} text,
            primary key (${quoted(keys).join(", ")}))`
        )
        expect(yield* refusal({ channel: "table_updates_x", table: "x" })).toMatchObject([
          "WatchRefused",
          expect.stringContaining("does not exist")
        ])
        const key = { "Ke y %I": 1, k: 2 }
        for (const columns of [undefined, ["x", ...texts]]) {
          yield* watch({ channel: "odd", table, level, old: true, columns })
          // A small text, one with an escape that JSON writes as \u, and one larger than is built unseen.
          for (const text of ["a", "\u0001", "é".repeat(50_000)]) {
            const row = (last: string) => ({
              x: { x: 3, k: 4 },
              ...(columns === undefined ? key : {}),
              ...Object.fromEntries(texts.map((name, at) => [name, at === 0 ? text : last]))
            })
            const values = ["(3,4)", 1, 2, text, ...texts.slice(1).map(() => "b")]
            expect(
              yield* changes(
                `insert into ${rows} values (${values.map((value) => `'${value}'`).join(", ")})`,
                `update ${rows} set ${quoted(texts.slice(1)).join(" = 'c', ")} = 'c'`,
                `delete from ${rows}`
              )
            ).toEqual([
              { operation: "INSERT", data: row("b"), key },
              { operation: "UPDATE", data: row("c"), old: row("b"), key },
              { operation: "DELETE", data: row("c"), key }
            ])
          }
        }
        yield* PgInstaller.unwatch({ channel: "odd", table })
        expect(yield* changes(`insert into ${rows} ("Ke y %I", k) values (1, 2)`)).toEqual([])
      }).pipe(Effect.provide(layerInstalled()))
    )

    it.live(`at ${level} level the key has only the columns of the primary key`, () =>
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        yield* sql`create table names (a int, name text, b int, primary key (b, a) include (name))`
        yield* watch({ channel: "table_updates_names", level })
        expect(
          yield* changes(`insert into names values (1, 'x', 2)`, `update names set name = 'y'`)
        ).toEqual([
          { operation: "INSERT", data: { a: 1, name: "x", b: 2 }, key: { a: 1, b: 2 } },
          { operation: "UPDATE", data: { a: 1, name: "y", b: 2 }, key: { a: 1, b: 2 } }
        ])
      }).pipe(Effect.provide(layerInstalled()))
    )

    it.live(`at ${level} level virtual columns are left out, and stored ones sent`, () =>
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        const [server] = yield* sql<{ readonly number: number }>`
          select current_setting('server_version_num')::int number`
        // Before version 18 every generated column is stored.
        const virtual =
          server!.number < 180_000 ? "" : ", v int generated always as (n * 3) virtual"
        yield* sql.unsafe(
          `create table sums (id int primary key, n int, s int generated always as (n * 2) stored${virtual})`
        )
        yield* watch({ channel: "table_updates_sums", level, old: true })
        expect(
          yield* changes(
            `insert into sums values (1, 1)`,
            `update sums set n = 2`,
            `delete from sums`
          )
        ).toEqual([
          { operation: "INSERT", data: { id: 1, n: 1, s: 2 }, key: { id: 1 } },
          {
            operation: "UPDATE",
            data: { id: 1, n: 2, s: 4 },
            old: { id: 1, n: 1, s: 2 },
            key: { id: 1 }
          },
          { operation: "DELETE", data: { id: 1, n: 2, s: 4 }, key: { id: 1 } }
        ])
        yield* watch({ channel: "table_updates_sums", level, columns: ["s"] })
        expect(yield* changes(`insert into sums values (1, 1)`)).toMatchObject([{ data: { s: 2 } }])
        if (virtual === "") return
        expect(
          yield* refusal({ channel: "table_updates_sums", level, columns: ["n", "v"] })
        ).toMatchObject(["WatchRefused", expect.stringContaining("not stored")])
      }).pipe(Effect.provide(layerInstalled()))
    )
  }

  for (const when of [undefined, { insert: "true", update: "true", delete: "true" }]) {
    const told = when === undefined ? "each row" : "the rows that a condition picks"
    it.live(`${told} sends each change in order, when a trigger changes it again too`, () =>
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        yield* sql`create table orders (id int primary key, n int not null default 0)`
        yield* sql`create function touch() returns trigger language plpgsql as
          $$ begin update orders set n = n + 1 where id = new.id and n < 2; return null; end $$`
        // PostgreSQL fires triggers in the order of their names.
        yield* sql`create trigger "A" after insert or update on orders for each row execute function touch()`
        yield* watch({ channel: "table_updates_orders", when })
        expect(yield* changes(`insert into orders values (1), (2)`)).toMatchObject(
          [1, 2].flatMap((id) => [
            { operation: "INSERT", data: { id, n: 0 } },
            { operation: "UPDATE", data: { id, n: 1 } },
            { operation: "UPDATE", data: { id, n: 2 } }
          ])
        )
      }).pipe(Effect.provide(layerInstalled()))
    )
  }

  it.live("a watch with a condition sends only the rows for which the condition holds", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      yield* sql`create table posts (id int primary key, published boolean not null default false)`
      yield* watch({
        channel: "table_updates_posts",
        when: {
          insert: "new.published",
          update: "new.published or old.published",
          delete: "old.published"
        }
      })
      expect(
        yield* changes(
          `insert into posts values (1), (2)`,
          `update posts set published = true where id = 1`,
          `alter table posts rename column published to live`,
          `update posts set live = not live where id = 1`,
          `update posts set live = not live where id = 2`,
          `delete from posts`
        )
      ).toMatchObject([
        { operation: "UPDATE", data: { id: 1, published: true } },
        { operation: "UPDATE", data: { id: 1, live: false } },
        { operation: "UPDATE", data: { id: 2, live: true } },
        { operation: "DELETE", data: { id: 2 } }
      ])
    }).pipe(Effect.provide(layerInstalled()))
  )

  it.live(
    "a partitioned table sends the changes of all its partitions, of those added later too",
    () =>
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        yield* sql`create table logs (day int, dropped int, n int, primary key (day, n)) partition by list (day)`
        yield* sql`alter table logs drop column dropped`
        yield* sql`create table logs_1 partition of logs for values in (1)`
        yield* watch({ channel: "table_updates_logs", columns: ["n"] })
        yield* sql`create table logs_2 partition of logs for values in (2)`
        expect(
          yield* changes(
            `insert into logs values (1, 10)`,
            `insert into logs_2 values (2, 20)`,
            `update logs set day = 2 where day = 1`,
            `truncate logs_1`
          )
        ).toEqual([
          { operation: "INSERT", data: { n: 10 }, key: { day: 1, n: 10 } },
          { operation: "INSERT", data: { n: 20 }, key: { day: 2, n: 20 } },
          // A row that moves ends in one partition and begins in another.
          { operation: "DELETE", data: { n: 10 }, key: { day: 1, n: 10 } },
          { operation: "INSERT", data: { n: 10 }, key: { day: 2, n: 10 } },
          { operation: "TRUNCATE" }
        ])
        // A TRUNCATE of a later partition is sent only after another watch.
        yield* watch({ channel: "table_updates_logs", columns: ["n"] })
        yield* watch({ channel: "table_updates_logs", columns: ["n"] })
        expect(yield* changes(`truncate logs_2`, `truncate logs_1`)).toEqual([
          { operation: "TRUNCATE" },
          { operation: "TRUNCATE" }
        ])
        expect(yield* refusal({ channel: "table_updates_logs", level: "statement" })).toMatchObject(
          ["WatchRefused", expect.stringContaining("partitioned")]
        )
        yield* PgInstaller.unwatch({ channel: "table_updates_logs" })
        expect(yield* changes(`insert into logs values (1, 11)`, `truncate logs`)).toEqual([])
      }).pipe(Effect.provide(layerInstalled()))
  )

  it.live(
    "TRUNCATE of a watched table sends one event with the operation TRUNCATE and no row in it",
    () =>
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        yield* sql`create table orders (id int primary key)`
        yield* sql`insert into orders values (1), (2)`
        yield* watch({ channel: "table_updates_orders" })
        expect(yield* changes(`truncate orders`)).toEqual([{ operation: "TRUNCATE" }])
      }).pipe(Effect.provide(layerInstalled()))
  )

  it.live("watch replaces triggers only if it changes, and allows several channels", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      yield* sql`create table orders (id int primary key, a text)`
      const triggers = sql<{ readonly oid: number }>`
        select oid::int from pg_trigger where tgrelid = 'orders'::regclass and not tgisinternal order by oid`
      yield* watch({ channel: "table_updates_orders" })
      const before = yield* triggers
      yield* watch({ channel: "table_updates_orders" })
      expect(yield* triggers).toEqual(before)
      yield* watch({ channel: "table_updates_orders", columns: ["a"] })
      expect(yield* triggers).not.toEqual(before)
      yield* watch({ channel: "others", table: "orders" })
      expect(yield* changes(`insert into orders values (1, 'x')`)).toEqual([
        { operation: "INSERT", data: { a: "x" }, key: { id: 1 } },
        { operation: "INSERT", data: { id: 1, a: "x" }, key: { id: 1 } }
      ])
      // A trigger dropped by hand is created again.
      yield* sql.unsafe(
        `do $$ declare t name; begin for t in select tgname from pg_trigger where tgrelid = 'orders'::regclass and not tgisinternal
         loop execute format('drop trigger %I on orders', t); end loop; end $$`
      )
      yield* watch({ channel: "others", table: "orders" })
      expect(yield* changes(`insert into orders values (2, 'x')`)).toHaveLength(1)
    }).pipe(Effect.provide(layerInstalled()))
  )

  it.live("watch and unwatch replace the trigger names of an earlier version", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const names = sql<{ readonly name: string }>`
        select tgname::text name from pg_trigger where not tgisinternal and tgrelid = 'orders'::regclass order by 1`
      const aged = Effect.gen(function* () {
        for (const { name } of yield* names) {
          yield* sql`alter trigger ${sql(name)} on orders rename to ${sql(name.replace("!", ""))}`
        }
      })
      yield* sql`create table orders (id int primary key)`
      yield* watch({ channel: "table_updates_orders" })
      yield* aged
      yield* watch({ channel: "table_updates_orders" })
      expect(yield* names).toMatchObject([
        { name: expect.stringMatching(/^!realtime_\d+_row$/) },
        { name: expect.stringMatching(/^!realtime_\d+_truncate$/) }
      ])
      yield* aged
      yield* PgInstaller.unwatch({ channel: "table_updates_orders" })
      expect(yield* names).toEqual([])
    }).pipe(Effect.provide(layerInstalled()))
  )

  it.live("a watch that could send no useful events is rejected with the reason", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      yield* sql`create table keyless (n int)`
      yield* sql`create table orders (id int primary key)`
      yield* sql`create view looks as select * from orders`
      yield* sql`create table parent (id int primary key)`
      yield* sql`create table child () inherits (parent)`
      yield* sql`create table heir (primary key (id)) inherits (parent)`
      yield* sql`create table late (id int primary key deferrable)`
      yield* sql.unsafe(`create table "${"x".repeat(60)}" (id int primary key)`)
      for (const [options, reason] of [
        [{ channel: "table_updates_keyless" }, "primary key"],
        [{ channel: "table_updates_looks" }, "not a table"],
        [{ channel: "settings", table: { schema: "realtime", name: "settings" } }, "not a table"],
        [{ channel: "table_updates_orders", columns: ["id", "nope"] }, "columns"],
        [{ channel: "bad name", table: "orders" }, "channel name"],
        [{ channel: "table_updates_orders", maxBytes: 9_000_000 }, "max_bytes"],
        [{ channel: "table_updates_orders", delivery: "live", maxBytes: 8000 }, "max_bytes"],
        [{ channel: "table_updates_orders", when: { insert: "new.nope" } }, "nope"],
        [{ channel: "table_updates_orders", when: { insert: "nope(new.id)" } }, "function nope("],
        [{ channel: "nope", table: { schema: "nope", name: "watched" } }, 'schema "nope"'],
        [{ channel: "nope", table: { schema: "public", name: "watched" } }, '"public.watched"'],
        [
          { channel: "table_updates_orders", level: "statement", when: { insert: "true" } },
          "row level"
        ],
        [{ channel: "table_updates_parent" }, "inherit from it"],
        [{ channel: "table_updates_parent", level: "statement" }, "inherit from it"],
        [{ channel: "table_updates_heir", level: "statement" }, "inherited"],
        [{ channel: "table_updates_late" }, "deferrable"],
        [{ channel: "table_updates_child", level: "statement" }, "primary key"]
      ] satisfies ReadonlyArray<readonly [PgInstaller.Watch, string]>) {
        expect(yield* refusal(options), JSON.stringify(options)).toMatchObject([
          "WatchRefused",
          expect.stringContaining(reason)
        ])
      }
      const error = yield* Effect.flip(sql.unsafe(`select realtime.watch('"${"x".repeat(60)}"')`))
      expect(String(error.reason.cause)).toContain("explicit channel")
      expect(yield* sql`select count(*)::int n from realtime.watched`).toEqual([{ n: 0 }])
      // A table that inherits may be watched itself.
      yield* watch({ channel: "table_updates_heir" })
      expect(yield* changes(`insert into heir values (1)`)).toHaveLength(1)
    }).pipe(Effect.provide(layerInstalled()))
  )

  it.live("a change fails if its event cannot be written to the outbox", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      yield* sql`create table orders (id int primary key)`
      yield* watch({ channel: "table_updates_orders" })
      yield* sql`alter table realtime.messages add constraint broken check (channel <> 'table_updates_orders')`
      yield* Effect.flip(sql`insert into orders values (1)`)
      expect(yield* sql`select * from orders`).toEqual([])
    }).pipe(Effect.provide(layerInstalled()))
  )

  it.live("a live watch sends rows up to 7,967 bytes by NOTIFY, and larger ones as key", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const source = yield* PgNotificationSource.make()
      yield* sql`create table orders (id int primary key, text text)`
      yield* sql`create table names (id text primary key)`
      for (const level of levels) {
        yield* watch({ channel: `live_${level}`, table: "orders", delivery: "live", level })
      }
      yield* watch({ channel: "live_names", table: "names", delivery: "live" })
      const queues = yield* Effect.forEach(levels, (level) => listenTo(source, `live_${level}`))
      const names = yield* listenTo(source, "live_names")
      const frame = `{"operation":"INSERT","data":{"id":1,"text":""},"key":{"id":1}}`.length
      yield* sql`insert into orders values (1, repeat('x', ${7967 - frame}::int))`
      yield* sql`insert into orders values (2, repeat('x', ${7968 - frame}::int))`
      yield* sql`insert into orders values (3, repeat('é', 100000))`
      yield* sql`insert into names values (repeat('n', 9000))`
      for (const queue of queues) {
        const items = yield* Queue.takeN(queue, 3)
        expect(items.map((item) => JSON.parse(String(item)) as unknown)).toMatchObject([
          { data: { id: 1, text: "x".repeat(7967 - frame) } },
          { operation: "INSERT", data: { id: 2 }, key: { id: 2 }, truncated: true },
          { operation: "INSERT", data: { id: 3 }, key: { id: 3 }, truncated: true }
        ])
      }
      // A key that is too large itself: only the operation can be sent.
      expect(String(yield* Queue.take(names)).trim()).toBe(
        `{"operation":"INSERT","data":null,"truncated":true}`
      )
      expect(yield* sql`select count(*)::int n from realtime.messages`).toEqual([{ n: 0 }])
    }).pipe(Effect.scoped, Effect.provide(layerInstalled()))
  )

  it.live(
    "a watch survives a dump: a table with a new number is found by its name, with its columns",
    () =>
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        yield* sql`create table orders (gone int, id int primary key, name text, secret text)`
        yield* sql`alter table orders drop column gone`
        yield* watch({ channel: "table_updates_orders", columns: ["name"] })
        // As a restore leaves it: other table numbers, the same names.
        yield* sql`update realtime.watched set relid = 1, columns = '{1}'`
        const told = { operation: "INSERT", data: { name: "a" }, key: { id: 1 } }
        expect(yield* changes(`insert into orders values (1, 'a', 'hidden')`)).toEqual([told])
        yield* sql`select realtime.relocate()`
        expect(
          yield* changes(
            `alter table orders rename column name to label`,
            `insert into orders values (2, 'b', 'hidden')`
          )
        ).toEqual([{ operation: "INSERT", data: { label: "b" }, key: { id: 2 } }])
        yield* watch({ channel: "table_updates_orders", columns: ["label"] })
        yield* PgInstaller.unwatch({ channel: "table_updates_orders" })
      }).pipe(Effect.provide(layerInstalled()))
  )
})
