/**
 * The state of a watched table on real PostgreSQL: the rows of the table, of a route or of a filter, with
 * the texts of its events, and the position from which the events follow.
 */
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Duration, Effect, Layer, Redacted, Schema, Stream } from "effect"
import * as Channel from "../../src/Channel.ts"
import type { Where } from "../../src/Frame.ts"
import * as PgType from "../../src/PgType.ts"
import * as Cursor from "../../src/internal/cursorText.ts"
import * as Filter from "../../src/server/internal/filter.ts"
import { refusalOf } from "../../src/server/internal/limits/refusalText.ts"
import { readState } from "../../src/server/internal/outbox/readState.ts"
import * as ReplayPool from "../../src/server/internal/outbox/replayPool.ts"
import { OutboxReader, type RowsRequest } from "../../src/server/OutboxReader.ts"
import * as PgInstaller from "../../src/server/PgInstaller.ts"
import * as Realtime from "../../src/server/Realtime.ts"
import { TestDatabase } from "../support/database.ts"
import { layerInstalled, layerReader, layerReaderOnly } from "./support/durable.ts"
import { layerCounted } from "./support/pool.ts"

const Lot = Schema.Struct({
  id: PgType.int8,
  room: Schema.NullOr(Schema.String),
  kind: Schema.NullOr(Schema.String),
  small: Schema.NullOr(Schema.Int),
  big: Schema.NullOr(PgType.int8),
  open: Schema.NullOr(Schema.Boolean),
  code: Schema.NullOr(Schema.String),
  day: Schema.NullOr(Schema.String),
  short: Schema.NullOr(Schema.String),
  free: Schema.NullOr(Schema.String),
  total: Schema.NullOr(PgType.numeric),
  at: Schema.NullOr(Schema.String),
  doc: Schema.Unknown
})
const filter = ["kind", "small", "big", "open", "code", "day", "short", "free"] as const
const Lots = Channel.table("lots", Lot, { key: "id", by: "room", filter, boundary: "id" })
const Narrow = Channel.table("lots", Lot, {
  key: "id",
  filter: "kind",
  columns: ["id", "kind", "total"],
  channel: "narrow"
})

const statements = [
  `create type kind as enum ('new', 'a "b"', 'a,b')`,
  `create domain free as text check (length(value) < 100)`,
  `create table lots (id int8 primary key, room text, kind kind, small int2, big int8, open bool, code uuid,
    day date, short varchar(8), free free, total numeric, at timestamptz, doc json)`,
  `create index on lots (room, kind)`
]

const values = [
  `(1311768467463790321, 'a', 'new', 7, 9007199254740993, true, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '2026-02-28', 'x y', 'ä\\b"c%d_', 99999999999999.12345, '2026-11-28 18:23:57.123456Z', '{"n": 9007199254740993,\n "m":1.0}')`,
  `(5, 'a', 'a "b"', -7, -1, false, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12', 'infinity', '', 'null', 10.50, 'infinity', '[]')`,
  `(2, 'b', 'a,b', 0, 0, null, null, '0044-03-15 BC', 'NULL', '{}', 'NaN', null, 'null')`,
  `(3, 'a', null, null, null, null, null, null, null, null, null, null, null)`,
  `(4, null, 'new', 7, 5, true, null, null, 'x', 'x', 0.1, now(), '1e400')`
]

/** The settings of the pool, which change how PostgreSQL writes values. */
const hostile = {
  timezone: "America/New_York",
  datestyle: "German, DMY",
  extra_float_digits: "-15",
  quote_all_identifiers: "on",
  standard_conforming_strings: "off"
}

const layerHostile = Layer.unwrap(
  Effect.gen(function* () {
    const { name, url } = yield* TestDatabase
    const sql = yield* PgClient.PgClient
    for (const statement of statements) yield* sql.unsafe(statement)
    yield* PgInstaller.watch(Lots)
    yield* PgInstaller.watch({ channel: Narrow, level: "statement" })
    for (const [setting, value] of Object.entries(hostile)) {
      yield* sql.unsafe(`alter database ${name} set ${setting} = '${value}'`)
    }
    return layerReaderOnly().pipe(Layer.provideMerge(PgClient.layer({ url: Redacted.make(url) })))
  })
).pipe(Layer.provideMerge(layerInstalled({ wake: "poll" })))

const limits = { rows: 10_000, bytes: 8 * 1024 * 1024 }

const stateOf = (
  request: Pick<RowsRequest, "channel" | "table"> & { readonly where?: Where },
  most: RowsRequest["limits"] = limits
) =>
  OutboxReader.use((reader) =>
    reader.rows!({ ...request, filter: Filter.make(request.where), limits: most })
  )

const lots = (where?: Where, most?: RowsRequest["limits"]) =>
  stateOf({ channel: "table_updates_lots", table: Lots.table, ...(where && { where }) }, most)

const idsOf = ({ rows }: { readonly rows: ReadonlyArray<string> }) =>
  rows.map((row) => /^\{"id":(\d+)/.exec(row)![1])

describe("The state of a table", () => {
  it.live("rows have the texts of their events, in the order of the key, at every level", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      yield* sql.unsafe(`insert into lots values ${values.join().replaceAll("\\", "\\\\")}`)
      for (const { channel, table } of [
        { channel: "table_updates_lots", table: Lots.table },
        { channel: "table_updates_lots:a", table: Lots.table },
        { channel: "narrow", table: Narrow.table }
      ]) {
        const { cursor, rows } = yield* stateOf({ channel, table })
        const told = yield* sql<{ readonly data: string }>`
          select substr(payload, 30, strpos(payload, ',"key":') - 30) data from realtime.messages m
          where starts_with(m.channel, ${channel}) order by (payload::json -> 'key' ->> 'id')::int8`
        // A row on no route has no event.
        expect(rows.filter((row) => !row.startsWith('{"id":4,"room"'))).toEqual(
          told.map(({ data }) => data)
        )
        expect(rows.length).toBe(channel.endsWith(":a") ? 3 : 5)
        const join = yield* OutboxReader.use((reader) => reader.join(channel, cursor))
        expect(join).toMatchObject({ state: "recovered", replay: [] })
      }
      expect((yield* lots()).rows.join()).toContain('"big":9007199254740993')
    }).pipe(Effect.provide(layerHostile))
  )

  it.live("a filter gives the rows of a select, and one with another spelling is invalid", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      yield* sql.unsafe(`insert into lots values ${values.join().replaceAll("\\", "\\\\")}`)
      const wheres: ReadonlyArray<readonly [Where, string]> = [
        [{ kind: "new" }, "kind = 'new'"],
        [{ kind: ["new", 'a "b"', "a,b"] }, "kind is not null"],
        [{ kind: null }, "kind is null"],
        [{ small: [7, -7], open: true }, "small in (7, -7) and open"],
        [{ big: "9007199254740993" }, "big = 9007199254740993"],
        [{ open: false }, "not open"],
        [{ code: "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12" }, "id = 5"],
        [{ day: ["2026-02-28", "infinity", "0044-03-15 BC"] }, "day is not null"],
        [{ short: ["", "NULL"] }, "id in (2, 5)"],
        [{ short: "longer than eight" }, "false"],
        [{ free: ['ä\\b"c%d_', "null", "{}"] }, "free is not null and free <> 'x'"],
        [{ free: "'; drop table lots; --" }, "false"],
        [{ free: [] }, "false"],
        [{ id: 3, kind: null, free: null }, "id = 3"]
      ]
      for (const [where, condition] of wheres) {
        const expected = yield* sql.unsafe<{ readonly id: string }>(
          `select id::text from lots where ${condition} order by lots.id`
        )
        expect([where, idsOf(yield* lots(where))]).toEqual([where, expected.map(({ id }) => id)])
      }
      // What a filter asks and what a rule adds, in a route.
      const both = yield* OutboxReader.use((reader) =>
        reader.rows!({
          channel: "table_updates_lots:a",
          table: Lots.table,
          filter: Filter.make({ kind: ["new", "a,b"] }, { open: true }),
          limits
        })
      )
      expect(idsOf(both)).toEqual(["1311768467463790321"])
      for (const where of [
        { small: "07" },
        { small: 70_000 },
        { small: 1.5 },
        { big: "x" },
        { open: "t" },
        { code: "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A12" },
        { day: "28.02.2026" },
        { day: "today" },
        { kind: "old" },
        { free: "\0" },
        { free: "\ud800" },
        { total: 1 },
        { room: ["a", "\0"] },
        { nothing: 1 }
      ]) {
        const [column] = Object.keys(where)
        const error = yield* Effect.flip(lots(where))
        expect([where, error]).toMatchObject([where, { _tag: "InvalidFilter" }])
        expect(error.message).toContain(`"${column}"`)
      }
    }).pipe(Effect.provide(layerHostile))
  )

  it.live("a route with another spelling than its column's is invalid", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const Numbered = Channel.table("numbered", Schema.Struct({ id: Schema.Int, n: Schema.Int }), {
        key: "id",
        by: "n"
      })
      yield* sql`create table numbered (id int primary key, n int)`
      yield* PgInstaller.watch(Numbered)
      yield* sql`insert into numbered values (1, 1), (2, 2)`
      const route = (value: string) =>
        stateOf({ channel: `table_updates_numbered:${value}`, table: Numbered.table })
      expect((yield* route("2")).rows).toEqual(['{"id":2,"n":2}'])
      expect((yield* route("3")).rows).toEqual([])
      for (const value of ["02", "x", "1:2"]) {
        const error = yield* Effect.flip(route(value))
        expect(error).toMatchObject({ _tag: "InvalidChannelName" })
        expect(error.message).toContain('"n"')
      }
    }).pipe(Effect.provide(layerReader({ wake: "poll" })))
  )

  it.live("a state beyond its limits is refused with its size, and is not read to its end", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const Steps = Channel.table("steps", Schema.Struct({ id: Schema.Int }), { key: "id" })
      // Counts the rows that become JSON.
      yield* sql`create sequence ticks`
      yield* sql.unsafe(`create type made as (text text)`)
      yield* sql.unsafe(`create function made(made) returns json language plpgsql as $$ begin
        perform nextval('public.ticks'); return to_json(($1).text); end $$`)
      yield* sql`create cast (made as json) with function made(made)`
      yield* sql`create table steps (id int primary key, made made)`
      yield* sql`insert into steps select n, row(repeat('x', 979))::made from generate_series(1, 300) n`
      yield* PgInstaller.watch(Steps)
      const steps = (rows: number, bytes: number) =>
        stateOf({ channel: "table_updates_steps", table: Steps.table }, { rows, bytes })
      const made = Effect.gen(function* () {
        const [row] = yield* sql<{ readonly n: number }>`select last_value::int n from ticks`
        yield* sql`alter sequence ticks restart`
        return row!.n
      })
      yield* made
      const { rows } = yield* steps(300, 1e6)
      const bytes = rows.reduce((sum, row) => sum + row.length, 0)
      expect((yield* steps(300, bytes)).rows).toEqual(rows)
      expect(yield* Effect.flip(steps(300, bytes - 1))).toMatchObject({ found: bytes })
      yield* made
      expect(yield* Effect.flip(steps(99, 1e6))).toMatchObject({
        _tag: "StateTooLarge",
        limit: "maxStateRows",
        most: 99,
        found: 100
      })
      expect(yield* made).toBeLessThanOrEqual(101)
      const large = yield* Effect.flip(steps(1000, 50_000))
      expect(large).toMatchObject({ _tag: "StateTooLarge", limit: "maxStateBytes", most: 50_000 })
      expect(large).toHaveProperty(
        "found",
        expect.toSatisfy((n) => n > 50_000 && n < 51_100)
      )
      expect(yield* made).toBeLessThanOrEqual(53)
      // A text that is larger than the limit is not made into JSON at all.
      const Texts = Channel.table("texts", Schema.Struct({ id: Schema.Int }), { key: "id" })
      yield* sql`create table texts (id int primary key, text text)`
      yield* sql`insert into texts values (1, repeat('x', 1000000))`
      yield* PgInstaller.watch(Texts)
      const texts = (bytes: number) =>
        stateOf({ channel: "table_updates_texts", table: Texts.table }, { rows: 10, bytes })
      expect(yield* Effect.flip(texts(999_999))).toMatchObject({ found: 1_000_000 })
      expect((yield* texts(1_000_100)).rows[0]).toHaveLength(1_000_018)
    }).pipe(Effect.provide(layerReader({ wake: "poll" })))
  )

  it.live("a table whose events tell of some rows only, or of none, has no state", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const Lines = Channel.table("lines", Schema.Struct({ id: Schema.Int }), { key: "id" })
      yield* sql`create table lines (id int primary key)`
      yield* sql`insert into lines values (1)`
      const lines = stateOf({ channel: "table_updates_lines", table: Lines.table })
      const functions = sql`select from pg_proc where proname ~ '^w[0-9]+_state$'`
      const reason = Effect.map(Effect.flip(lines), (error) => error.message)
      expect(yield* reason).toContain("no table is watched")
      yield* PgInstaller.watch({ channel: Lines, delivery: "live" })
      expect(yield* reason).toContain("no table is watched")
      yield* PgInstaller.watch({ channel: Lines, when: { insert: "new.id > 0" } })
      expect(yield* reason).toContain("conditions")
      expect(yield* functions).toHaveLength(0)
      yield* PgInstaller.watch(Lines)
      expect((yield* lines).rows).toEqual(['{"id":1}'])
      yield* PgInstaller.unwatch(Lines)
      expect(yield* functions).toHaveLength(0)
    }).pipe(Effect.provide(layerReader({ wake: "poll" })))
  )

  it.live("a channel with the events of two tables has no state", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const Lines = Channel.table("lines", Schema.Struct({ id: Schema.Int }), { key: "id" })
      yield* sql`create table lines (id int primary key)`
      yield* sql`create table others (id int primary key)`
      const lines = stateOf({ channel: "table_updates_lines", table: Lines.table })
      yield* PgInstaller.watch(Lines)
      yield* PgInstaller.watch({ channel: Lines, table: "others", shared: true })
      for (const asked of [lines, Stream.runDrain(Realtime.rows(Lines))]) {
        const error = yield* Effect.flip(
          asked as Effect.Effect<unknown, unknown, OutboxReader | Realtime.Realtime>
        )
        expect(error).toMatchObject({ _tag: "NoState", reason: "shared" })
        expect(refusalOf(error)).toMatchObject({ code: "state/none" })
      }
      yield* PgInstaller.unwatch({ channel: Lines, table: "others" })
      expect((yield* lines).rows).toEqual([])
      // The events of a live watch do not reach a durable channel.
      yield* PgInstaller.watch({ channel: Lines, table: "others", delivery: "live", shared: true })
      expect((yield* lines).rows).toEqual([])
    }).pipe(Effect.provide(Realtime.layerDurable()), Effect.provide(layerReader({ wake: "poll" })))
  )

  it.live(
    "a state is one statement, outside the caller's transaction, and survives a crash and an ALTER",
    () =>
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        const asked: Array<string> = []
        const Lines = Channel.table("lines", Schema.Struct({ id: Schema.Int }), {
          key: "id",
          columns: ["id"]
        })
        yield* sql`create table lines (id int primary key, n int)`
        yield* PgInstaller.watch(Lines)
        yield* sql`insert into lines values (1, 10), (2, 20)`
        yield* Effect.gen(function* () {
          // Without a reader, whose session would open the database after a crash.
          const spied = yield* PgClient.PgClient
          const pool = yield* ReplayPool.make(
            spied,
            { atOnce: 1, queue: 1, bytes: 1e9 },
            Duration.seconds(10)
          )
          const lines = readState(pool)({
            channel: "table_updates_lines",
            table: Lines.table,
            filter: undefined,
            limits
          })
          const counted = Effect.gen(function* () {
            asked.length = 0
            const { cursor, rows } = yield* lines
            expect(Cursor.parseDurable(cursor)).toBeDefined()
            return [rows.join(), asked.length]
          })
          expect(yield* counted).toEqual(['{"id":1},{"id":2}', 1])
          const inside = sql.withTransaction(
            Effect.andThen(sql`delete from lines`, Effect.andThen(lines, Effect.fail("undo")))
          )
          expect(yield* Effect.flip(inside)).toBe("undo")
          // As after a crash, until a node opens the outbox.
          yield* sql`delete from realtime.epoch`
          expect(yield* counted).toEqual(['{"id":1},{"id":2}', 3])
          // A column that takes the name of a watched one is not told.
          yield* sql.withTransaction(
            Effect.andThen(
              sql`alter table lines rename id to was`,
              sql`alter table lines rename n to id`
            )
          )
          expect(yield* counted).toEqual(['{"was":1},{"was":2}', 3])
          expect(yield* counted).toEqual(['{"was":1},{"was":2}', 1])
        }).pipe(Effect.provide(layerCounted((text) => void asked.push(text))))
      }).pipe(Effect.provide(layerInstalled({ wake: "poll" })))
  )

  it.live("the secret is the same for all nodes of a database, and another one in a copy", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const secret = Effect.flatMap(OutboxReader, (reader) => reader.secret!).pipe(
        Effect.provide(Layer.fresh(layerReaderOnly()))
      )
      const first = yield* secret
      expect(first).toMatch(/^[0-9a-f]{64}$/)
      expect(yield* secret).toBe(first)
      // As in a restored dump.
      yield* sql`update realtime.origin set one = true`
      expect(yield* secret).not.toBe(first)
      expect(yield* sql`select secret from realtime.settings`).toEqual([{ secret: yield* secret }])
    }).pipe(Effect.provide(layerInstalled({ wake: "poll" })))
  )
})
