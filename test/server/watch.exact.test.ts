/**
 * The events of a watched table are right whichever session writes, whatever other triggers there
 * are, and however the table is altered between two writes.
 */
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Queue } from "effect"
import { gapTexts } from "../../src/server/internal/gapText.ts"
import * as PgInstaller from "../../src/server/PgInstaller.ts"
import * as PgNotificationSource from "../../src/server/PgNotificationSource.ts"
import { listenTo } from "../support/listenTo.ts"
import { layerInstalled, session } from "./support/durable.ts"

const levels = ["row", "statement"] as const

const watch = (options: PgInstaller.Watch) => PgInstaller.watch({ delivery: "durable", ...options })

const parsed = (payload: string): unknown =>
  payload.startsWith(" ") ? payload : (JSON.parse(payload) as unknown)

/** Runs SQL on a session of its own, and returns the events it wrote, in order. */
const changes = (...statements: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const sql = yield* PgClient.PgClient
    const writer = yield* session
    const last = yield* sql<{ readonly id: string }>`
      select coalesce(max(id), 0)::text id from realtime.messages`
    for (const statement of statements) yield* writer.query(statement, [], false)
    const rows = yield* sql<{ readonly payload: string }>`
      select payload from realtime.messages m where m.id > ${last[0]!.id}::bigint order by m.id`
    return rows.map(({ payload }) => parsed(payload))
  }).pipe(Effect.scoped)

/** The rows that remain after applying each event, by their keys. */
const folded = (events: ReadonlyArray<unknown>) => {
  const rows = new Map<string, unknown>()
  for (const event of events as ReadonlyArray<{ operation: string; data: unknown; key: object }>) {
    if (event.operation === "DELETE") rows.delete(JSON.stringify(event.key))
    else rows.set(JSON.stringify(event.key), event.data)
  }
  return [...rows.values()]
}

/** From then on a change that takes the slow path fails its statement. */
const fastOnly = Effect.gen(function* () {
  const sql = yield* PgClient.PgClient
  yield* sql`create or replace function realtime.row_slow(id int, rel oid, op text, o record, n record) returns boolean
    language plpgsql as $$ begin raise exception 'the slow way'; end $$`
  yield* sql`create or replace function realtime.rows_slow(id int, rel oid, op text) returns text
    language plpgsql as $$ begin raise exception 'the slow way'; end $$`
})

const hostile = [
  "set timezone = 'America/New_York'",
  "set datestyle = 'German, DMY'",
  "set intervalstyle = 'sql_standard'",
  "set bytea_output = 'escape'",
  "set extra_float_digits = -15",
  "set xmlbinary = 'hex'",
  "set quote_all_identifiers = on",
  "set standard_conforming_strings = off"
]

describe("The session that writes a watched table", () => {
  for (const level of levels) {
    it.live(`the settings of the writing session do not change events at ${level} level`, () =>
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        yield* sql`create table visits (
          at timestamptz, span interval, day tstzrange, bytes bytea, ratio float8, of regclass, place point,
          primary key (at, span))`
        yield* watch({ channel: "table_updates_visits", level })
        const insert = `insert into visits values
          ('2026-11-28T18:00:00.5Z', '1 day 2 hours', '[2026-11-28T18:00Z,)', decode('5c00ff', 'hex'), 0.1::float8 + 0.2, 'visits', '(1.5,2.25)')`
        const remove = "delete from visits"
        const plain = yield* changes(insert, remove)
        expect(plain).toMatchObject([
          {
            operation: "INSERT",
            data: {
              at: "2026-11-28T18:00:00.5+00:00",
              span: "1 day 02:00:00",
              day: `["2026-11-28 18:00:00+00",)`,
              bytes: String.raw`\x5c00ff`,
              ratio: 0.300_000_000_000_000_04,
              of: "public.visits",
              place: "(1.5,2.25)"
            },
            key: { at: "2026-11-28T18:00:00.5+00:00", span: "1 day 02:00:00" }
          },
          { operation: "DELETE" }
        ])
        expect(yield* changes(...hostile, insert, ...hostile, remove)).toEqual(plain)
      }).pipe(Effect.provide(layerInstalled()))
    )
  }

  it.live("names with quotes and backslashes work with standard_conforming_strings off", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      yield* sql.unsafe(
        String.raw`create table odd (id int primary key, "a\b" text, "it's" json, "@cap@" text, "$fn$" text)`
      )
      for (const level of levels) {
        yield* watch({
          channel: `odd_${level}`,
          table: "odd",
          level,
          columns: ["a\\b", "it's", "@cap@", "$fn$"]
        })
      }
      const [row, statement] = yield* changes(
        "set standard_conforming_strings = off",
        String.raw`insert into odd values (1, 'c\\d', '{"x":"\\u0000"}', 'cap', 'fn')`
      )
      expect(row).toEqual(statement)
      expect(row).toMatchObject({ data: { "a\\b": "c\\d", "it's": { x: "\0" }, "@cap@": "cap" } })
    }).pipe(Effect.provide(layerInstalled()))
  )

  it.live("operators in the writer's search_path do not reach the triggers", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      yield* sql`create table orders (id int primary key, name text)`
      yield* watch({ channel: "table_updates_orders", level: "statement" })
      yield* sql`create schema hostile`
      yield* sql`create function hostile.equals(int, int) returns boolean language sql as 'select false'`
      yield* sql`create operator hostile.= (leftarg = int, rightarg = int, function = hostile.equals)`
      const path = "set search_path = hostile, public, pg_catalog"
      expect(
        yield* changes(
          path,
          "insert into orders values (1, 'a'), (2, 'b')",
          "update orders set name = name || '!'"
        )
      ).toMatchObject([
        { operation: "INSERT", key: { id: 1 } },
        { operation: "INSERT", key: { id: 2 } },
        { operation: "UPDATE", key: { id: 1 }, data: { name: "a!" } },
        { operation: "UPDATE", key: { id: 2 }, data: { name: "b!" } }
      ])
    }).pipe(Effect.provide(layerInstalled()))
  )
})

describe("The trigger functions of a watched table", () => {
  for (const level of levels) {
    it.live(`everyday changes at ${level} level send events without reading the catalog`, () =>
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        yield* sql`create table orders (id int, line text, n numeric, at timestamptz default now(), tags text[], primary key (id, line))`
        yield* watch({ channel: "table_updates_orders", level, old: true })
        yield* watch({ channel: "lines", table: "orders", level, columns: ["n", "tags"] })
        yield* fastOnly
        const told = yield* changes(
          "insert into orders (id, line) values (1, 'a')",
          "insert into orders (id, line) select n, 'b' from generate_series(1, 3) n",
          "update orders set n = 1.5 where line = 'a'",
          "update orders set n = 2",
          "update orders set id = id + 10",
          "update orders set id = 7 where line = 'a'",
          "update orders set n = n",
          "update orders set n = 0 where false",
          "insert into orders values (7, 'a', 3), (8, 'a', 3) on conflict (id, line) do update set n = 4",
          "delete from orders where line = 'a'",
          "delete from orders"
        )
        expect(folded(told)).toEqual([])
        expect(told).toHaveLength(2 * (1 + 3 + 1 + 4 + 8 + 2 + 2 + 2 + 3))
      }).pipe(Effect.provide(layerInstalled()))
    )

    it.live(`at ${level} level events have the new names when columns change places`, () =>
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        yield* sql`create table users (id int primary key, title text, secret text, other int)`
        yield* watch({ channel: "table_updates_users", level, columns: ["title"] })
        yield* watch({ channel: "whole", table: "users", level })
        expect(
          yield* changes(
            "insert into users values (1, 'public', 'hidden', 9)",
            "alter table users rename column title to was",
            "alter table users rename column secret to title",
            "update users set was = 'still public', title = 'still hidden'",
            "alter table users rename column id to first",
            "alter table users rename column other to id",
            "update users set was = 'told'",
            "insert into users values (2, 'more', 'hidden', 9), (3, 'more', 'hidden', 9)"
          )
        ).toMatchObject([
          { data: { title: "public" }, key: { id: 1 } },
          { data: { id: 1, secret: "hidden" }, key: { id: 1 } },
          { data: { was: "still public" }, key: { id: 1 } },
          { data: { id: 1, title: "still hidden" }, key: { id: 1 } },
          { data: { was: "told" }, key: { first: 1 } },
          { data: { id: 9, first: 1 }, key: { first: 1 } },
          ...(level === "row"
            ? [2, 3].flatMap((first) => [
                { data: { was: "more" }, key: { first } },
                { data: { id: 9, first }, key: { first } }
              ])
            : [
                { data: { was: "more" }, key: { first: 2 } },
                { data: { was: "more" }, key: { first: 3 } },
                { data: { id: 9, first: 2 }, key: { first: 2 } },
                { data: { id: 9, first: 3 }, key: { first: 3 } }
              ])
        ])
        // The column that has the name now is not the column that was allowed.
        const whole = yield* changes("update users set title = 'not told'")
        expect(whole).toHaveLength(3)
        expect(whole).toMatchObject([{ data: { id: 9 } }, { data: { id: 9 } }, { data: { id: 9 } }])
      }).pipe(Effect.provide(layerInstalled()))
    )

    it.live(`altering a watched table never fails a later statement, at ${level} level`, () =>
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        yield* sql`create table orders (id int primary key, n int, name text)`
        yield* watch({ channel: "table_updates_orders", level, old: true })
        const told = yield* changes(
          // One session, so that plans made before an alteration are used again.
          "insert into orders values (1, 1, 'a'), (2, 2, 'b')",
          "update orders set n = n + 1",
          "alter table orders alter column n type text",
          "update orders set n = n || '!'",
          "alter table orders add column more jsonb default '[1]'",
          "update orders set name = 'c'",
          "alter table orders drop column n",
          "update orders set name = 'd'",
          "alter table orders alter column id type bigint",
          "update orders set id = id + 5000000000",
          "alter table orders add column twice text generated always as (name || name) virtual",
          "update orders set name = 'e'",
          "alter table orders rename to sales",
          "insert into sales (id, name) values (1, 'f')"
        )
        expect(folded(told)).toHaveLength(3)
        expect(folded(told)).toEqual(
          expect.arrayContaining([
            { id: 5_000_000_001, name: "e", more: [1] },
            { id: 5_000_000_002, name: "e", more: [1] },
            { id: 1, name: "f", more: [1] }
          ])
        )
        // Without a key no event can name its row.
        expect(
          yield* changes(
            "begin",
            "alter table sales drop constraint orders_pkey",
            "update sales set name = 'g'",
            "delete from sales",
            "commit"
          )
        ).toEqual([gapTexts.invalid])
      }).pipe(Effect.provide(layerInstalled()))
    )
  }

  it.live(
    "a trigger that a dump brought to another table sends nothing, and watching that table removes it",
    () =>
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        yield* sql`create table orders (id int primary key)`
        yield* sql`create table salaries (id int primary key, amount int)`
        yield* watch({ channel: "table_updates_orders" })
        // As pg_dump writes it: the number is that of another table here.
        yield* sql.unsafe(
          `create trigger "!realtime_1_row" after insert or update or delete on salaries for each row execute function realtime.w1_row()`
        )
        yield* sql.unsafe(
          `create trigger "realtime_1_truncate" after truncate on salaries for each statement execute function realtime.table_truncated('1')`
        )
        yield* sql.unsafe(
          `create trigger "!realtime_1_old" after insert on salaries for each row execute function realtime.row_changed('1')`
        )
        expect(
          yield* changes("insert into salaries values (1, 5000)", "truncate salaries")
        ).toEqual([])
        expect(yield* sql`select rel, channel, trouble from realtime.troubles()`).toHaveLength(3)
        yield* watch({ channel: "table_updates_salaries", columns: ["id"] })
        expect(yield* sql`select * from realtime.troubles()`).toEqual([])
        expect(yield* changes("insert into salaries values (1, 5000)")).toEqual([
          { operation: "INSERT", data: { id: 1 }, key: { id: 1 } }
        ])
      }).pipe(Effect.provide(layerInstalled()))
  )
})

describe("A watched partition that is partitioned itself", () => {
  it.live("a watched partition sends the changes of its own partitions and of no others", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      yield* sql`create table parts (id int, kind text, primary key (id, kind)) partition by range (id)`
      yield* sql`create table low partition of parts for values from (0) to (10) partition by list (kind)`
      yield* sql`create table low_a partition of low for values in ('a')`
      yield* sql`create table high partition of parts for values from (10) to (20)`
      yield* watch({ channel: "low", table: "low" })
      yield* fastOnly
      expect(
        yield* changes(
          "insert into parts values (1, 'a'), (11, 'a')",
          "insert into low_a values (2, 'a')",
          "truncate low_a",
          "truncate high"
        )
      ).toMatchObject([{ key: { id: 1 } }, { key: { id: 2 } }, gapTexts.truncate])
      expect(yield* sql`select * from realtime.strays()`).toEqual([])
    }).pipe(Effect.provide(layerInstalled()))
  )
})

describe("A table watched live", () => {
  for (const level of levels) {
    it.live(`a live watch sends each change of a transaction once, at ${level} level`, () =>
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        const source = yield* PgNotificationSource.make()
        yield* sql`create table lamps (id int primary key, lit boolean)`
        yield* watch({ channel: "table_updates_lamps", delivery: "live", level })
        const queue = yield* listenTo(source, "table_updates_lamps")
        yield* changes(
          "begin",
          "insert into lamps values (1, false)",
          "update lamps set lit = true",
          "update lamps set lit = false",
          "update lamps set lit = true",
          "delete from lamps",
          "insert into lamps values (1, false)",
          "truncate lamps",
          "insert into lamps values (1, false)",
          "truncate lamps",
          "commit"
        )
        const told = yield* Queue.takeN(queue, 9)
        expect(new Set(told).size).toBe(9)
        const change = (operation: string, lit: boolean) => ({
          operation,
          data: { id: 1, lit },
          key: { id: 1 }
        })
        expect(told.map((text) => parsed(String(text).trimEnd()))).toEqual([
          change("INSERT", false),
          change("UPDATE", true),
          change("UPDATE", false),
          change("UPDATE", true),
          change("DELETE", true),
          change("INSERT", false),
          gapTexts.truncate,
          change("INSERT", false),
          gapTexts.truncate
        ])
      }).pipe(Effect.scoped, Effect.provide(layerInstalled()))
    )
  }

  it.live("a live watch works without the outbox table", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const source = yield* PgNotificationSource.make()
      yield* sql`create table lamps (id int primary key, lit boolean)`
      yield* watch({ channel: "table_updates_lamps", delivery: "live" })
      const queue = yield* listenTo(source, "table_updates_lamps")
      yield* sql`drop table realtime.messages`
      yield* sql`insert into lamps values (1, true)`
      yield* sql`alter table lamps rename column id to number`
      yield* sql`update lamps set lit = false`
      expect((yield* Queue.takeN(queue, 2)).map((text) => parsed(String(text)))).toMatchObject([
        { key: { id: 1 } },
        { key: { number: 1 } }
      ])
    }).pipe(Effect.scoped, Effect.provide(layerInstalled()))
  )
})

describe("Other triggers on a watched table", () => {
  for (const level of levels) {
    it.live(
      `at ${level} level the last event of a row is its state, although another trigger changes the row`,
      () =>
        Effect.gen(function* () {
          const sql = yield* PgClient.PgClient
          yield* sql`create table addresses (id int primary key, fallback boolean)`
          yield* watch({ channel: "table_updates_addresses", level })
          // Only one row may be the fallback.
          yield* sql.unsafe(`create function one_fallback() returns trigger language plpgsql as $$ begin
          if new.fallback then update addresses set fallback = false where id <> new.id and fallback; end if;
          return null; end $$`)
          yield* sql`create trigger one_fallback after insert or update on addresses for each row execute function one_fallback()`
          const rows = sql`select id, fallback from addresses order by id`
          const told = yield* changes(
            "insert into addresses values (1, true)",
            "insert into addresses values (3, true), (4, true)",
            "update addresses set fallback = true where id in (1, 3)",
            "update addresses set id = id + 10, fallback = true"
          )
          expect(
            (folded(told) as Array<{ id: number }>).toSorted((one, other) => one.id - other.id)
          ).toEqual(yield* rows)
        }).pipe(Effect.provide(layerInstalled()))
    )

    it.live(`rows that another trigger deletes send one DELETE each, at ${level} level`, () =>
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        yield* sql`create table jobs (id int primary key, done boolean)`
        yield* watch({ channel: "table_updates_jobs", level })
        yield* sql.unsafe(`create function remove_done() returns trigger language plpgsql as $$ begin
          delete from jobs where done; return null; end $$`)
        yield* sql`create trigger remove_done after insert or update on jobs for each row execute function remove_done()`
        const told = yield* changes(
          "insert into jobs values (1, false), (2, true), (3, true)",
          "update jobs set done = true"
        )
        const deleted = told.filter(
          (event) => (event as { operation: string }).operation === "DELETE"
        )
        expect(
          deleted.map((event) => (event as { key: { id: number } }).key.id).toSorted()
        ).toEqual([1, 2, 3])
        expect(folded(told)).toEqual([])
      }).pipe(Effect.provide(layerInstalled()))
    )
  }

  it.live("rows that another trigger hides from the condition send a gap", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      yield* sql`create table posts (id int primary key, published boolean)`
      yield* watch({
        channel: "table_updates_posts",
        when: { insert: "new.published", update: "new.published" }
      })
      yield* sql.unsafe(`create function hide() returns trigger language plpgsql as $$ begin
        update posts set published = false where id > 1 and published; return null; end $$`)
      yield* sql`create trigger hide after insert on posts for each row execute function hide()`
      expect(yield* changes("insert into posts values (1, true), (2, true)")).toEqual([
        { operation: "INSERT", data: { id: 1, published: true }, key: { id: 1 } },
        gapTexts.invalid
      ])
    }).pipe(Effect.provide(layerInstalled()))
  )

  it.live("a cascade to another watched table never takes the slow path", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      yield* sql`create table parents (id int primary key)`
      yield* sql`create table children (id int primary key, parent int references parents on delete cascade)`
      yield* watch({ channel: "table_updates_parents" })
      yield* watch({ channel: "table_updates_children" })
      yield* sql`insert into parents select * from generate_series(1, 5)`
      yield* sql`insert into children select n, n from generate_series(1, 5) n`
      yield* fastOnly
      expect(yield* changes("delete from parents")).toHaveLength(10)
    }).pipe(Effect.provide(layerInstalled()))
  )
})

describe("Changes that no trigger sees", () => {
  it.live("replica sessions send events only with the option always", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      yield* sql`create table orders (id int primary key)`
      yield* sql`create table parts (id int primary key) partition by range (id)`
      yield* sql`create table parts_1 partition of parts for values from (0) to (10)`
      const replica = "set session_replication_role = replica"
      const write = [
        "insert into orders values (1)",
        "delete from orders",
        "insert into parts values (1)"
      ]
      yield* watch({ channel: "table_updates_orders" })
      yield* watch({ channel: "table_updates_parts" })
      expect(yield* changes(replica, ...write, "truncate parts")).toEqual([])
      yield* watch({ channel: "table_updates_orders", always: true })
      yield* watch({ channel: "table_updates_parts", always: true })
      yield* sql`create table parts_2 partition of parts for values from (10) to (20)`
      expect(
        yield* changes(replica, ...write, "insert into parts values (11)", "truncate parts")
      ).toMatchObject([
        { key: { id: 1 } },
        { key: { id: 1 } },
        { key: { id: 1 } },
        { key: { id: 11 } },
        gapTexts.truncate,
        gapTexts.truncate
      ])
      yield* watch({ channel: "table_updates_orders" })
      expect(yield* changes(replica, "insert into orders values (2)")).toEqual([])
    }).pipe(Effect.provide(layerInstalled()))
  )

  it.live("tell_gap sends a gap to a live and to a durable channel", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const source = yield* PgNotificationSource.make()
      yield* sql`create table lamps (id int primary key)`
      yield* sql`create table orders (id int primary key)`
      yield* watch({ channel: "table_updates_lamps", delivery: "live" })
      yield* watch({ channel: "table_updates_orders" })
      const queue = yield* listenTo(source, "table_updates_lamps")
      expect(yield* changes("select realtime.tell_gap('table_updates_lamps')")).toEqual([])
      expect(String(yield* Queue.take(queue)).trimEnd()).toBe(gapTexts.source)
      expect(yield* changes("select realtime.tell_gap('table_updates_orders')")).toEqual([
        gapTexts.source
      ])
    }).pipe(Effect.scoped, Effect.provide(layerInstalled()))
  )

  it.live("look finds each table without working triggers, and sends one gap for each", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      for (const name of ["gone", "moved", "keyless", "quiet", "fine"]) {
        yield* sql.unsafe(`create table ${name} (id int primary key, n int)`)
        yield* watch({ channel: `table_updates_${name}` })
      }
      expect(yield* sql`select * from realtime.look()`).toEqual([])
      yield* sql`drop table gone`
      yield* sql`alter table moved rename to moved_old`
      yield* sql`create table moved (id int primary key)`
      yield* sql`alter table keyless drop constraint keyless_pkey`
      yield* sql`alter table quiet disable trigger user`
      yield* sql`alter table fine rename column n to m`
      const found = [
        ["table_updates_gone", expect.stringContaining("gone")],
        ["table_updates_keyless", expect.stringContaining("no primary key")],
        ["table_updates_moved", expect.stringContaining("moved_old")],
        ["table_updates_quiet", expect.stringContaining("disabled")]
      ]
      const look = Effect.map(
        sql<{ readonly channel: string; readonly trouble: string }>`
          select channel, trouble from realtime.look() order by channel`,
        (rows) => rows.map(({ channel, trouble }) => [channel, trouble])
      )
      expect(yield* look).toEqual(found)
      expect(yield* look).toEqual([])
      const rows = yield* sql`select channel, payload from realtime.messages order by channel`
      expect(rows).toEqual(found.map(([channel]) => ({ channel, payload: gapTexts.source })))
      expect(yield* sql`select channel from realtime.troubles()`).toHaveLength(4)
      // A table that was only altered has new functions.
      yield* fastOnly
      expect(yield* changes("insert into fine values (1, 2)")).toMatchObject([
        { data: { id: 1, m: 2 } }
      ])
    }).pipe(Effect.provide(layerInstalled()))
  )
})

describe("The channel of a watched table", () => {
  it.live("a channel belongs to one table unless both watches are shared", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      yield* sql`create table orders (id int primary key)`
      yield* sql`create schema tenant`
      yield* sql`create table tenant.orders (id int primary key)`
      const tenant = { schema: "tenant", name: "orders" }
      yield* watch({ channel: "table_updates_orders" })
      const error = yield* Effect.flip(watch({ channel: "table_updates_orders", table: tenant }))
      expect(error.message).toContain(
        `channel "table_updates_orders" is that of table public.orders`
      )
      expect(yield* changes("insert into tenant.orders values (1)")).toEqual([])
      yield* watch({ channel: "table_updates_orders", table: tenant, shared: true })
      yield* watch({ channel: "table_updates_orders", shared: true })
      expect(
        yield* changes("insert into tenant.orders values (2)", "insert into orders values (3)")
      ).toHaveLength(2)
    }).pipe(Effect.provide(layerInstalled()))
  )

  it.live("a temporary table cannot be watched", () =>
    Effect.gen(function* () {
      const writer = yield* session
      yield* writer.query("create temporary table passing (id int primary key)")
      const error = yield* Effect.flip(
        writer.query("select realtime.watch('passing', channel => 'passing')")
      )
      expect(error.message).toBeDefined()
    }).pipe(Effect.scoped, Effect.provide(layerInstalled()))
  )
})
