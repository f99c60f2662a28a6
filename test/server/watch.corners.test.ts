/** Watched tables in cases that random tests found first. */
import { inspect } from "node:util"
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Queue } from "effect"
import * as PgInstaller from "../../src/server/PgInstaller.ts"
import * as PgNotificationSource from "../../src/server/PgNotificationSource.ts"
import { listenTo } from "../support/listenTo.ts"
import { gapTexts } from "../../src/server/internal/gapText.ts"
import { layerInstalled, session } from "./support/durable.ts"

const told = PgClient.PgClient.use(
  (sql) => sql<{ readonly payload: string }>`select payload from realtime.messages order by id`
).pipe(Effect.map((rows) => rows.map(({ payload }) => JSON.parse(payload) as unknown)))

describe("A watched table with odd columns", () => {
  it.live("the columns of a key may have the names that the triggers use", () =>
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
      `at ${level} level a change has a column added since, also beside a virtual one, which is left out`,
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

/**
 * The events as texts with sorted keys, in sorted order: a statement sends its rows in any order.
 */
const sorted = (events: ReadonlyArray<unknown>): ReadonlyArray<string> =>
  events
    .map((event) =>
      JSON.stringify(event, (_, value: unknown) =>
        typeof value === "object" && value !== null && !Array.isArray(value)
          ? Object.fromEntries(Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1)))
          : value
      )
    )
    .toSorted()

/** The columns of a table, by their first names. */
interface Row {
  readonly id: number
  readonly twin: number
  readonly a: string
  readonly b: string
  readonly n: number
}
type Column = keyof Row | "g" | "v"

const swaps: ReadonlyArray<readonly [what: string, one: Column, other: Column]> = [
  ["two columns of a type", "a", "b"],
  ["two columns of different types", "a", "n"],
  ["a column and a stored one of its type", "b", "g"],
  ["a column and a stored one of another type", "n", "g"],
  ["a column and a virtual one of its type", "a", "v"],
  ["a column and a virtual one of another type", "n", "v"],
  ["a stored and a virtual column", "g", "v"],
  ["the key and a column of its type", "id", "twin"],
  ["the key and a stored column", "id", "g"],
  ["the key and a virtual column", "id", "v"]
]

const swap = (one: string, other: string): ReadonlyArray<string> =>
  [`${one} to between`, `${other} to ${one}`, `between to ${other}`].map(
    (names) => `alter table things rename column ${names}`
  )

describe("A watched table whose columns swap their names", () => {
  for (const [what, one, other] of swaps) {
    it.live(`a change has the column names at its time after a swap: ${what}`, () =>
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        const source = yield* PgNotificationSource.make()
        const [server] = yield* sql<{ readonly number: number }>`
          select current_setting('server_version_num')::int number`
        const virtual = server!.number >= 180_000
        yield* sql.unsafe(`create table things (
          id int primary key, twin int not null, a text, v text generated always as (b || '?') ${virtual ? "virtual" : "stored"},
          b text, n int, g text generated always as (a || '!') stored)`)
        const all: ReadonlyArray<Column> = ["id", "twin", "a", "b", "n", "g"]
        const channels = yield* Effect.forEach(
          (["row", "statement"] as const).flatMap((level) =>
            (["durable", "live"] as const).flatMap((delivery) =>
              [undefined, ["a", "g", "n"] as const].flatMap((columns) =>
                [false, true].map((old) => ({ level, delivery, columns, old }))
              )
            )
          ),
          ({ columns, ...options }) =>
            Effect.gen(function* () {
              const channel = `${Object.values(options).join("_")}_${columns?.length ?? "all"}`
              yield* PgInstaller.watch({ ...options, columns, channel, table: "things" })
              const queue =
                options.delivery === "live" ? yield* listenTo(source, channel) : undefined
              return { ...options, channel, columns, queue }
            })
        )

        const names = new Map<Column, string>()
        const name = (column: Column) => names.get(column) ?? column
        const writer = yield* session
        const events: Array<(columns: ReadonlyArray<Column>, old: boolean) => unknown> = []
        const insert = (...rows: ReadonlyArray<Row>) => {
          for (const row of rows) events.push(event("INSERT", row))
          const columns = ["id", "twin", "a", "b", "n"] as const
          return writer.query(
            `insert into things (${columns.map(name).join(", ")}) values ${rows
              .map((row) => `(${columns.map((column) => `'${row[column]}'`).join(", ")})`)
              .join(", ")}`,
            [],
            false
          )
        }
        const event = (operation: string, row: Row, was?: Row) => {
          const now = new Map(names)
          const named = (columns: ReadonlyArray<Column>, from: Row) => {
            const whole = { ...from, g: `${from.a}!`, v: `${from.b}?` }
            return Object.fromEntries(columns.map((c) => [now.get(c) ?? c, whole[c]]))
          }
          return (columns: ReadonlyArray<Column>, old: boolean) => ({
            operation,
            data: named(columns, row),
            ...(old && was !== undefined ? { old: named(columns, was) } : {}),
            key: named(["id"], row)
          })
        }
        const row = (id: number): Row => ({
          id,
          twin: id + 5,
          a: `a${id}`,
          b: `b${id}`,
          n: id * 10
        })
        const more = (was: Row): Row => ({ ...was, a: `${was.a}+`, b: `${was.b}+`, n: was.n + 1 })
        const update = (...rows: ReadonlyArray<Row>) => {
          for (const was of rows) events.push(event("UPDATE", more(was), was))
          const [a, b, n] = [name("a"), name("b"), name("n")]
          return writer.query(
            `update things set ${a} = ${a} || '+', ${b} = ${b} || '+', ${n} = ${n} + 1`,
            [],
            false
          )
        }

        yield* writer.query("begin", [], false)
        yield* insert(row(1))
        yield* update(row(1))
        for (const statement of swap(one, other)) yield* writer.query(statement, [], false)
        names.set(one, other).set(other, one)
        const first = more(row(1))
        yield* update(first)
        yield* insert(row(2), row(3))
        const rows = [more(first), row(2), row(3)]
        yield* update(...rows)
        for (const gone of rows) events.push(event("DELETE", more(gone)))
        yield* writer.query("delete from things", [], false)
        yield* writer.query("commit", [], false)

        for (const { channel, columns, old, queue } of channels) {
          const payloads =
            queue === undefined
              ? (yield* sql<{ readonly payload: string }>`
                  select payload from realtime.messages where channel = ${channel}`).map(
                  ({ payload }) => payload
                )
              : (yield* Queue.takeN(queue, events.length)).map(String)
          const travels = columns ?? [...all, ...(virtual ? [] : (["v"] as const))]
          expect([channel, ...sorted(payloads.map((text) => JSON.parse(text) as unknown))]).toEqual(
            [channel, ...sorted(events.map((made) => made(travels, old)))]
          )
        }
      }).pipe(Effect.scoped, Effect.provide(layerInstalled()))
    )
  }

  for (const relocated of [false, true]) {
    const then = relocated ? "and once its nodes are there" : "before its nodes are"
    it.live(`a watch after a dump and a restore keeps its own columns, ${then}`, () =>
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        yield* sql`create table things (id int primary key, a text, secret text)`
        yield* PgInstaller.watch({
          channel: "things",
          table: "things",
          delivery: "durable",
          columns: ["a"]
        })
        yield* Effect.forEach(swap("a", "secret"), (statement) => sql.unsafe(statement))
        yield* sql`select * from realtime.look()`
        // As a restore leaves it: other table numbers, the same names, and triggers for another table.
        yield* sql`update realtime.watched set relid = 1, columns = '{1}', signature = ''`
        yield* sql`alter index things_pkey rename to things_key`
        if (relocated) yield* sql`select realtime.relocate()`
        yield* sql`insert into things (id, secret, a) values (1, 'told', 'hidden')`
        expect(yield* told).toMatchObject([{ data: { secret: "told" } }])
      }).pipe(Effect.provide(layerInstalled()))
    )
  }
})

/**
 * What another session alters, what the transaction writes then, and the event: "gap" or the row.
 */
const late: ReadonlyArray<
  readonly [
    what: string,
    columns: ReadonlyArray<string> | undefined,
    alter: ReadonlyArray<string>,
    write: string,
    told: (server: number, level: string) => unknown
  ]
> = [
  [
    "two columns swapped names, and all are watched",
    undefined,
    swap("a", "secret"),
    "update things set secret = 'more'",
    () => ({ id: 1, secret: "more", a: "hidden", n: 1 })
  ],
  [
    "a watched column swapped its name with another",
    ["a"],
    swap("a", "secret"),
    "update things set secret = 'more', a = 'still hidden'",
    () => "gap"
  ],
  [
    "a column swapped its name with a virtual one",
    undefined,
    swap("a", "v"),
    "update things set n = 2",
    (server) =>
      server < 180_000 ? { id: 1, v: "told", secret: "hidden", n: 2, a: "hidden" } : "gap"
  ],
  ["the key swapped its name", undefined, swap("id", "n"), "update things set id = 2", () => "gap"],
  [
    "a column was added",
    undefined,
    ["alter table things add late text"],
    "update things set late = 'here'",
    (server, level) =>
      server < 180_000 && level === "row"
        ? { id: 1, a: "told", secret: "hidden", n: 1, late: "here" }
        : "gap"
  ]
]

describe("A transaction with a snapshot older than an alteration of its table", () => {
  const begin = ["begin isolation level repeatable read", "select from pg_class"]
  const set = (virtual: boolean, options: Partial<PgInstaller.Watch>) =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      yield* sql`create table things (id int primary key, a text, secret text, n int)`
      const [version] = yield* sql<{ readonly server: number }>`
        select current_setting('server_version_num')::int server`
      if (virtual) {
        // Before version 18 every generated column is stored.
        yield* sql.unsafe(
          `alter table things add v text generated always as (secret) ${version!.server < 180_000 ? "stored" : "virtual"}`
        )
      }
      yield* PgInstaller.watch({
        channel: "things",
        table: "things",
        delivery: "durable",
        ...options
      })
      yield* sql`insert into things values (1, 'told', 'hidden', 1)`
      const [last] = yield* sql<{ readonly id: string }>`
        select max(id)::text id from realtime.messages`
      const writer = yield* session
      return {
        alter: (statements: ReadonlyArray<string>) =>
          Effect.forEach(statements, (statement) => sql.unsafe(statement)),
        write: (...statements: ReadonlyArray<string>) =>
          Effect.forEach(statements, (statement) => writer.query(statement, [], false)),
        later: sql<{ readonly payload: string }>`
          select payload from realtime.messages where id > ${last!.id}::bigint order by id`.pipe(
          Effect.map((rows) =>
            rows.map(({ payload }) =>
              payload === gapTexts.invalid
                ? "gap"
                : (JSON.parse(payload) as { readonly data: unknown }).data
            )
          )
        ),
        server: version!.server
      }
    })

  for (const level of ["row", "statement"] as const) {
    for (const [what, columns, alter, write, expected] of late) {
      it.live(`at ${level} level an old snapshot gives the right row or a gap: ${what}`, () =>
        Effect.gen(function* () {
          const world = yield* set(what.includes("virtual"), { level, columns })
          yield* world.write(...begin)
          yield* world.alter(alter)
          yield* world.write(write, "commit")
          expect(yield* world.later).toEqual([expected(world.server, level)])
        }).pipe(Effect.scoped, Effect.provide(layerInstalled()))
      )
    }

    it.live(`at ${level} level an old snapshot gives the right row after a node looked`, () =>
      Effect.gen(function* () {
        const world = yield* set(false, { level, columns: ["a"] })
        yield* world.write(...begin)
        yield* world.alter([...swap("a", "secret"), "select * from realtime.look()"])
        yield* world.write("update things set secret = 'more', a = 'still hidden'", "commit")
        expect(yield* world.later).toEqual([{ secret: "more" }])
      }).pipe(Effect.scoped, Effect.provide(layerInstalled()))
    )
  }

  it.live("watching a table altered after the transaction's snapshot is rejected", () =>
    Effect.gen(function* () {
      const world = yield* set(false, { columns: ["a"] })
      yield* world.write(...begin)
      yield* world.alter(swap("a", "secret"))
      const refused = yield* Effect.flip(
        world.write("select realtime.watch('things', 'other', columns => array['a'])")
      )
      expect(inspect(refused)).toContain("was altered after this transaction began")
    }).pipe(Effect.scoped, Effect.provide(layerInstalled()))
  )

  it.live("triggers are not written for a table that is altered meanwhile", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const world = yield* set(false, { columns: ["a"] })
      // The alteration happens in the middle, as by another session.
      yield* sql`create function meanwhile() returns event_trigger language plpgsql as $$ begin
        alter table public.things rename column secret to b; end $$`
      yield* sql`create event trigger meanwhile on ddl_command_end when tag in ('CREATE FUNCTION')
        execute function meanwhile()`
      yield* world.alter([
        "alter table things rename column n to m",
        "select * from realtime.look()"
      ])
      const troubles = yield* sql`select trouble from realtime.troubles()`
      expect(troubles).toMatchObject([{ trouble: expect.stringContaining("not written anew") }])
      yield* sql`drop event trigger meanwhile`
      yield* sql`select * from realtime.look()`
      expect(yield* sql`select trouble from realtime.troubles()`).toEqual([])
    }).pipe(Effect.scoped, Effect.provide(layerInstalled()))
  )
})
