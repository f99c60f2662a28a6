/** What a cursor is worth after the database restarted, crashed, or was replaced by a copy. */
import { PgClient, PgConnection } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Context, Effect, Layer, Queue, Redacted, Schedule, type Scope } from "effect"
import { spawnSync } from "node:child_process"
import * as OutboxReader from "../../src/server/OutboxReader.ts"
import * as PgInstaller from "../../src/server/PgInstaller.ts"
import { ownServer } from "../support/cluster.ts"
import { execute, layerDatabase, TestDatabase } from "../support/database.ts"
import { layerInstalled, quick } from "./support/durable.ts"

/** A reader and a pool on a database, until the scope closes. */
const node = (url: string) =>
  Effect.map(
    Layer.build(
      Layer.fresh(OutboxReader.layer(quick)).pipe(
        Layer.provideMerge(PgClient.layer({ url: Redacted.make(url) }))
      )
    ),
    (context) => ({
      reader: Context.get(context, OutboxReader.OutboxReader),
      /** Retries while the server is away. */
      publish: (payload: unknown) =>
        PgClient.PgClient.use(
          (sql) => sql`select realtime.publish('room', ${JSON.stringify(payload)}::text)`
        ).pipe(Effect.retry({ times: 50, schedule: soon }), Effect.provideContext(context)),
      install: PgInstaller.install().pipe(Effect.provideContext(context))
    })
  )

const soon = Schedule.spaced(50)

const next = (queue: Queue.Dequeue<OutboxReader.Item>) => Queue.take(queue)

const owner = (url: string) => {
  const there = new URL(url)
  there.pathname = "/postgres"
  return there.href
}

const nameOf = (url: string) => new URL(url).pathname.slice(1)

const tables = [
  "settings",
  "origin",
  "epoch",
  "horizon",
  "marks",
  "consumers",
  "messages",
  "watched"
]

/** Ways to copy a database. */
const copies: Readonly<
  Record<string, (from: string, to: string) => Effect.Effect<unknown, unknown, Scope.Scope>>
> = {
  "made from a template": (from, to) =>
    execute(owner(from), `create database ${nameOf(to)} template ${nameOf(from)}`),
  /** What a dump restores: the objects, created again, and then every row as it was. */
  "dumped and restored, row by row": (from, to) =>
    Effect.gen(function* () {
      yield* execute(owner(from), `create database ${nameOf(to)}`)
      yield* execute(to, "create table orders (id int primary key)")
      yield* PgInstaller.install({ watch: [{ channel: "table_updates_orders" }] }).pipe(
        Effect.provide(PgClient.layer({ url: Redacted.make(to) })),
        Effect.scoped
      )
      for (const table of tables) {
        const [rows] = yield* execute(
          from,
          `select coalesce(json_agg(t), '[]')::text rows from realtime.${table} t`
        )
        const session = yield* PgConnection.make({ url: Redacted.make(to) })
        yield* session.query(`delete from realtime.${table}`)
        yield* session.query(
          `insert into realtime.${table} overriding system value
           select * from json_populate_recordset(null::realtime.${table}, $1::json)`,
          [String(rows!["rows"])]
        )
      }
    })
}

/** A machine with its own PostgreSQL has pg_dump too; the embedded PostgreSQL has not. */
const byPgDump: typeof copies = {
  "dumped and restored by pg_dump": (from, to) =>
    Effect.gen(function* () {
      yield* execute(owner(from), `create database ${nameOf(to)}`)
      const dump = spawnSync("pg_dump", ["--dbname", from], { encoding: "utf8" })
      expect(dump).toMatchObject({ status: 0, stderr: "" })
      const restored = spawnSync("psql", ["--quiet", "-v", "ON_ERROR_STOP=1", "--dbname", to], {
        input: dump.stdout,
        encoding: "utf8"
      })
      expect(restored).toMatchObject({ status: 0, stderr: "" })
    })
}

const theirs = process.env["REALTIME_TEST_DATABASE_URL"] !== undefined

describe("A durable cursor", () => {
  it.live("a cursor resumes after a fast restart, and followers receive no gap", () =>
    Effect.gen(function* () {
      const postgres = yield* ownServer()
      const { install, publish, reader } = yield* node(postgres.url)
      yield* install
      const queue = yield* reader.follow("room").pipe(Effect.retry({ times: 50, schedule: soon }))
      const start = yield* reader.position
      yield* publish(1)
      yield* next(queue)
      yield* postgres.restart
      yield* publish(2)
      expect(yield* next(queue)).toMatchObject({ _tag: "Batch", events: [{ text: "2" }] })
      const join = yield* reader.join("room", start)
      expect(join).toMatchObject({
        state: "recovered",
        replay: [{ events: [{ text: "1" }, { text: "2" }] }]
      })
    }).pipe(Effect.scoped)
  )

  it.live("a cursor resumes after an immediate stop, and followers receive no gap", () =>
    Effect.gen(function* () {
      const postgres = yield* ownServer()
      const { install, publish, reader } = yield* node(postgres.url)
      yield* install
      const queue = yield* reader.follow("room").pipe(Effect.retry({ times: 50, schedule: soon }))
      yield* publish(1)
      const item = yield* next(queue)
      const once = execute(
        postgres.url,
        "select realtime.publish('kept', '1'::text, 'key')::int id"
      )
      const stored = yield* once
      yield* postgres.crash
      // The key of a publish still holds.
      expect(yield* once).toEqual(stored)
      yield* publish(2)
      const after = yield* next(queue)
      expect(after).toMatchObject({ _tag: "Batch", events: [{ text: "2" }] })
      expect(after.tick).toBeGreaterThan(item.tick)
      // The cursor replays exactly the message after it.
      expect(yield* reader.join("room", item.cursor)).toMatchObject({
        state: "recovered",
        replay: [{ events: [{ text: "2" }] }]
      })
    }).pipe(Effect.scoped)
  )

  it.live.each(Object.entries(theirs ? { ...copies, ...byPgDump } : copies))(
    "a cursor resets in a copy of its database %s, and the copy delivers no message of before",
    ([, copy]) =>
      Effect.gen(function* () {
        const { name, url } = yield* TestDatabase
        yield* execute(url, "create table orders (id int primary key)")
        const cursor = yield* Effect.gen(function* () {
          const { reader } = yield* node(url)
          // A message that no reader has seen, with a number far above the new database's transactions.
          yield* execute(
            url,
            `insert into realtime.messages (txid, channel, payload)
           select (pg_snapshot_xmax(pg_current_snapshot())::text::bigint + 1000)::text::xid8, 'room', '"ghost"'`
          )
          yield* execute(url, "select realtime.watch('orders', delivery => 'durable')")
          yield* execute(url, "select realtime.publish('room', '1'::text, 'key')")
          return yield* reader.position
        }).pipe(Effect.scoped)
        yield* execute(
          url,
          "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
        )
        const there = new URL(url)
        there.pathname = `/${name}_copy`
        yield* Effect.addFinalizer(() =>
          Effect.orDie(execute(owner(url), `drop database if exists ${name}_copy with (force)`))
        )
        yield* copy(url, there.href)
        const { publish, reader } = yield* node(there.href)
        const queue = yield* reader.follow("room")
        expect(yield* reader.join("room", cursor)).toMatchObject({
          state: "reset",
          reason: "identity"
        })
        expect(yield* execute(there.href, "select count(*)::int n from realtime.messages")).toEqual(
          [{ n: 0 }]
        )
        // Transactions up to past the number of that message.
        yield* execute(
          there.href,
          "do $$ begin for n in 1..1100 loop perform pg_current_xact_id(); commit; end loop; end $$"
        )
        yield* publish("new")
        expect(yield* next(queue)).toMatchObject({ events: [{ text: '"new"' }] })
        // The table is still watched.
        yield* execute(there.href, "insert into orders values (1)")
        const rows = yield* execute(
          there.href,
          "select payload::json->'key' as key from realtime.messages where channel = 'table_updates_orders'"
        )
        expect(rows).toEqual([{ key: { id: 1 } }])
      }).pipe(Effect.scoped, Effect.provide(layerInstalledAlone))
  )

  it.live("a cursor of another database at the same position is rejected", () =>
    Effect.gen(function* () {
      const here = yield* TestDatabase
      const { reader } = yield* node(here.url)
      const cursor = yield* reader.position
      yield* Effect.gen(function* () {
        const { url } = yield* TestDatabase
        const { reader } = yield* node(url)
        expect(yield* reader.join("room", cursor)).toMatchObject({ reason: "identity" })
      }).pipe(Effect.provide(Layer.fresh(layerInstalled())))
    }).pipe(Effect.scoped, Effect.provide(layerInstalled()))
  )

  it.live("a cursor survives an upgrade of the install, and no reinstall after uninstall", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      const { install, reader } = yield* node(url)
      const cursor = yield* reader.position
      yield* execute(url, "update realtime.settings set digest = 'older', version = 1")
      yield* install
      expect(yield* reader.join("room", cursor)).toMatchObject({ state: "recovered" })
      yield* PgInstaller.uninstall
      yield* install
      const after = yield* node(url)
      expect(yield* after.reader.join("room", cursor)).toMatchObject({ reason: "identity" })
    }).pipe(Effect.scoped, Effect.provide(layerInstalled()))
  )
})

/** A database without a pool, whose sessions would prevent a copy. */
const layerInstalledAlone = Layer.effectContext(
  Effect.gen(function* () {
    const context = yield* Layer.build(layerDatabase)
    const database = Context.get(context, TestDatabase)
    yield* PgInstaller.install().pipe(
      Effect.provide(PgClient.layer({ url: Redacted.make(database.url) })),
      Effect.scoped
    )
    return Context.make(TestDatabase, database)
  })
)
