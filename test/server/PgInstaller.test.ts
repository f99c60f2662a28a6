import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Fiber, Schema } from "effect"
import { execFileSync, spawnSync } from "node:child_process"
import { randomBytes } from "node:crypto"
import * as Channel from "../../src/Channel.ts"
import { sqlMessage, sqlState } from "../../src/server/internal/link/sqlState.ts"
import { schemaVersion } from "../../src/server/internal/sql/schema.ts"
import * as PgInstaller from "../../src/server/PgInstaller.ts"
import { execute, layerDatabase, TestDatabase } from "../support/database.ts"
import { script } from "./support/script.ts"
import * as Tables from "./support/tables.ts"
import { layerInstalled, publish, session } from "./support/durable.ts"

const objects = `
  select (select count(*)::int from pg_class c where c.relnamespace = n.oid) tables,
    (select count(*)::int from pg_proc p where p.pronamespace = n.oid) functions
  from pg_namespace n where nspname = 'realtime'`

describe("PgInstaller", () => {
  it.live("install runs twice without a change, and uninstall removes everything", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      expect(yield* Effect.flip(PgInstaller.check)).toMatchObject({
        _tag: "NotInstalled",
        message: expect.stringContaining("npx effect-realtime sql")
      })
      yield* PgInstaller.install()
      yield* PgInstaller.check
      const before = yield* sql.unsafe(objects)
      yield* publish("room", 1)
      // A second install would wait for this writer if it locked a table.
      const writer = yield* session
      yield* writer.query("begin")
      yield* writer.query("select realtime.publish('room', '2'::text)")
      yield* PgInstaller.install({ lockTimeout: "100 millis" })
      yield* writer.query("commit")
      expect(yield* sql.unsafe(objects)).toEqual(before)
      yield* sql`create table orders (id int primary key)`
      yield* PgInstaller.watch({ channel: "table_updates_orders" })
      yield* PgInstaller.uninstall
      yield* PgInstaller.uninstall
      expect(yield* sql.unsafe(objects)).toEqual([])
      // The triggers are removed too.
      yield* sql`insert into orders values (1)`
    }).pipe(Effect.scoped, Effect.provide(layerDatabase))
  )

  it.live("install upgrades an older version and keeps its messages; check fails until then", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      yield* publish("room", 1)
      yield* sql`update realtime.settings set version = 0, digest = ''`
      yield* sql`drop function realtime.prune(int)`
      expect(yield* Effect.flip(PgInstaller.check)).toMatchObject({
        _tag: "OutdatedInstall",
        installed: 0,
        needed: schemaVersion
      })
      yield* PgInstaller.install()
      yield* PgInstaller.check
      expect(yield* sql`select payload, realtime.prune() from realtime.messages`).toHaveLength(1)
    }).pipe(Effect.provide(layerInstalled()))
  )

  it.live("install brings back one of two functions of a name that was dropped", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const kept = yield* sql<{ n: string }>`select settings.xmin::text n from realtime.settings`
      yield* sql`drop function realtime.publish(text, jsonb, text)`
      yield* PgInstaller.install()
      expect(
        yield* sql`select to_regprocedure('realtime.publish(text, jsonb, text)') is not null as here`
      ).toEqual([{ here: true }])
      const again = yield* sql`select settings.xmin::text n from realtime.settings`
      expect(again).not.toEqual(kept)
      // A whole install is left as it is.
      yield* PgInstaller.install()
      expect(yield* sql`select settings.xmin::text n from realtime.settings`).toEqual(again)
    }).pipe(Effect.provide(layerInstalled()))
  )

  it.live("install leaves a newer version as it is, so that an old node can restart", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      yield* sql`update realtime.settings set version = ${schemaVersion + 1}, digest = 'newer'`
      yield* PgInstaller.install({ retention: "1 hour" })
      expect(yield* sql`select version, digest from realtime.settings`).toEqual([
        { version: schemaVersion + 1, digest: "newer" }
      ])
      yield* PgInstaller.check
    }).pipe(Effect.provide(layerInstalled()))
  )

  it.live("six installs at once succeed", () =>
    Effect.gen(function* () {
      yield* Effect.all(
        Array.from({ length: 6 }, () => PgInstaller.install()),
        { concurrency: "unbounded" }
      )
      yield* PgInstaller.check
    }).pipe(Effect.provide(layerDatabase))
  )

  it.live("install keeps every setting that it is not given", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const settings = sql`
        select wake, retention::text, max_messages::int from realtime.settings`
      expect(yield* settings).toEqual([
        { wake: "hybrid", retention: "24:00:00", max_messages: null }
      ])
      yield* PgInstaller.install({ wake: "notify", retention: "36 hours", maxMessages: 1000 })
      yield* PgInstaller.install({ maxMessages: null })
      expect(yield* settings).toEqual([
        { wake: "notify", retention: "36:00:00", max_messages: null }
      ])
    }).pipe(Effect.provide(layerInstalled()))
  )

  it.live("install gives up after lockTimeout rather than block writers", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const writer = yield* session
      yield* writer.query("begin")
      yield* writer.query("select realtime.publish('room', '1'::text)")
      const error = yield* Effect.flip(
        PgInstaller.install({ wake: "poll", lockTimeout: "100 millis" })
      )
      expect(sqlState(error)).toBe("55P03")
      expect(yield* sql`select wake from realtime.settings`).toEqual([{ wake: "hybrid" }])
    }).pipe(Effect.scoped, Effect.provide(layerInstalled()))
  )

  it.live("PgInstaller.sql and the command line print the same script, which runs twice", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      const flags = ["--wake", "poll", "--watch", "public.orders=changes", "--columns", "id, name"]
      const command = ["-C", "@effect-realtime/source", "src/bin/effect-realtime.ts", "sql"]
      const printed = execFileSync(
        process.execPath,
        [...command, ...flags, "--watch-durable", "orders"],
        { encoding: "utf8" }
      )
      expect(printed).toBe(
        PgInstaller.sql({
          wake: "poll",
          roles: {},
          watch: [
            { channel: "changes", table: "orders", columns: ["id", "name"] },
            { channel: "table_updates_orders", delivery: "durable" }
          ]
        })
      )
      yield* execute(url, "create table orders (id int primary key, name text)")
      const db = yield* session
      // The script may run again.
      for (const text of [printed, printed]) yield* script(db, text)
      yield* PgInstaller.check
      expect(yield* execute(url, delivered)).toEqual([
        { channel: "changes", delivery: "live" },
        { channel: "table_updates_orders", delivery: "durable" }
      ])
    }).pipe(Effect.scoped, Effect.provide(layerDatabase))
  )

  it.live("the command line watches the tables that a module exports", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      const module = "test/server/support/tables.ts"
      const command = ["-C", "@effect-realtime/source", "src/bin/effect-realtime.ts", "sql"]
      const run = (...flags: ReadonlyArray<string>) =>
        spawnSync(process.execPath, [...command, ...flags], { encoding: "utf8" })
      const { stdout } = run("--definitions", module, "--watch", "orders=changes")
      expect(stdout).toBe(
        PgInstaller.sql({
          roles: {},
          watch: [Tables.Messages, Tables.Orders, { channel: "changes", table: "orders" }]
        })
      )
      yield* execute(url, "create table orders (id int primary key, status text)")
      yield* execute(url, "create table messages (id int primary key, room text)")
      const db = yield* session
      for (const text of [stdout, stdout]) yield* script(db, text)
      expect(
        yield* execute(url, "select channel, routes, matches from realtime.watched order by 1")
      ).toEqual([
        { channel: "changes", routes: null, matches: null },
        { channel: "table_updates_messages", routes: ["room"], matches: ["room"] },
        { channel: "table_updates_orders", routes: null, matches: ["status"] }
      ])
      // The module also exports a route of a table, and a channel of no table.
      expect([Tables.lobby.table, Tables.Notices.table]).toEqual([Tables.Messages.table, undefined])
      const none = run("--definitions", "src/PgType.ts")
      expect([none.status, none.stderr]).toEqual([
        64,
        expect.stringContaining("The module src/PgType.ts exports no Channel.table.")
      ])
    }).pipe(Effect.scoped, Effect.provide(layerDatabase))
  )

  it.live("a table is watched live by default", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      yield* execute(url, "create table orders (id int primary key)")
      yield* execute(url, "select realtime.watch('orders')")
      yield* PgInstaller.watch({ channel: "named", table: "orders" })
      expect(yield* execute(url, delivered)).toEqual([
        { channel: "named", delivery: "live" },
        { channel: "table_updates_orders", delivery: "live" }
      ])
    }).pipe(Effect.provide(layerInstalled()))
  )
})

const delivered = "select channel, delivery from realtime.watched order by channel"

describe("realtime.publish", () => {
  it.live("realtime.publish rejects invalid names, table channels and JSON with codes", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const attempt = (channel: string, payload: string) =>
        Effect.flip(sql`select realtime.publish(${channel}, ${payload}::text)`).pipe(
          Effect.map((error) => [sqlState(error), sqlMessage(error)] as const)
        )
      for (const name of ["", "realtime", "a b", "é", "a\nb", "a\n", "x".repeat(64), 'a"', "a;b"]) {
        expect(yield* attempt(name, "1"), JSON.stringify(name)).toMatchObject(["RT001", {}])
      }
      expect(yield* attempt("table_updates_orders", "1")).toMatchObject(["RT002", {}])
      expect(yield* attempt("room", "{")).toMatchObject(["22P02", {}])
      yield* sql`select realtime.publish(${"aZ09_.:-".repeat(8).slice(0, 63)}, ${"1"}::text)`
      // From SQL, a literal and jsonb are both accepted.
      yield* sql.unsafe(`select realtime.publish('room', '{"a": 1}')`)
      yield* sql.unsafe(`select realtime.publish('room', jsonb_build_object('a', 1), key => 'k')`)
      expect(yield* sql`select count(*)::int n from realtime.messages`).toEqual([{ n: 3 }])
    }).pipe(Effect.provide(layerInstalled()))
  )

  it.live("realtime.publish with a key has one effect, even when transactions race", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const keyed = (payload: string, key: string) =>
        sql<{ readonly id: bigint }>`select realtime.publish('room', ${payload}::text, ${key}) id`
      const first = yield* keyed("1", "k")
      expect(yield* keyed("1", "k")).toEqual(first)
      expect(sqlState(yield* Effect.flip(keyed("2", "k")))).toBe("RT004")
      yield* keyed("2", "other")
      yield* sql`select realtime.publish('hall', '2'::text, 'k')`
      const ids = yield* Effect.forEach(
        Array.from({ length: 16 }, (_, n) => `race ${n % 4}`),
        (key) => Effect.map(keyed("3", key), (rows) => rows[0]!.id),
        { concurrency: "unbounded" }
      )
      expect(new Set(ids).size).toBe(4)
      // A rollback frees the key.
      yield* sql
        .withTransaction(Effect.andThen(keyed("4", "again"), Effect.fail("no")))
        .pipe(Effect.ignore)
      yield* keyed("5", "again")
    }).pipe(Effect.provide(layerInstalled()))
  )

  it.live("realtime.publish inserts again when its key's message is pruned meanwhile", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const [asking, pruning] = [yield* session, yield* session]
      // Stops a publisher between finding the key taken and reading its message.
      yield* sql.unsafe(`create function halt() returns trigger language plpgsql as $$ begin
        perform pg_advisory_xact_lock(1); return null; end $$`)
      yield* sql`select realtime.publish('room', '1'::text, 'k')`
      // The last message below the horizon is never pruned.
      yield* sql`select realtime.publish('room', '2'::text)`
      yield* sql`update realtime.horizon set snapshot = pg_current_snapshot()`
      yield* sql`create trigger halt after insert on realtime.messages for each statement execute function halt()`
      yield* pruning.query("begin")
      yield* pruning.query("select pg_advisory_xact_lock(1)")
      const asked = yield* Effect.forkChild(
        asking.query("select realtime.publish('room', '1'::text, 'k')::int id")
      )
      const halted = sql`select from pg_locks l join pg_database d on d.oid = l.database
        where datname = current_database() and locktype = 'advisory' and not granted`
      yield* Effect.repeat(halted, { until: (rows) => rows.length === 1 })
      expect((yield* pruning.query("select realtime.prune() n")).rows).toEqual([{ n: 1 }])
      yield* pruning.query("commit")
      const { rows } = yield* Fiber.join(asked)
      expect(yield* sql`select id::int, payload from realtime.messages where key = 'k'`).toEqual([
        { ...rows[0], payload: "1" }
      ])
    }).pipe(Effect.scoped, Effect.provide(layerInstalled()))
  )

  it.live("realtime.publish works in a two-phase commit if it sends no NOTIFY", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const db = yield* session
      const prepare = (silent: boolean, gid: string) =>
        Effect.gen(function* () {
          yield* db.query("begin")
          if (silent) yield* db.query("set local realtime.wake = off")
          yield* db.query("select realtime.publish('room', '1'::text)")
          yield* db.query(`prepare transaction '${gid}'`)
        })
      const gid = () => randomBytes(8).toString("hex")
      yield* PgInstaller.install({ wake: "notify" })
      expect(sqlMessage(yield* Effect.flip(prepare(false, gid())))).toContain("NOTIFY")
      yield* db.query("rollback")
      for (const wake of ["notify", "hybrid"] as const) {
        yield* PgInstaller.install({ wake })
        const name = gid()
        yield* prepare(true, name)
        yield* db.query(`commit prepared '${name}'`)
      }
      yield* PgInstaller.install({ wake: "poll" })
      const name = gid()
      yield* prepare(false, name)
      yield* db.query(`commit prepared '${name}'`)
      expect(yield* sql`select count(*)::int n from realtime.messages`).toEqual([{ n: 3 }])
    }).pipe(Effect.scoped, Effect.provide(layerInstalled()))
  )
})

describe("PgInstaller.watch with a channel definition", () => {
  it.live("a watched channel definition decodes the changes of its table", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const Orders = Channel.tableUpdates("orders", Schema.Struct({ id: Schema.Int }))
      yield* sql`create table orders (id int primary key)`
      yield* PgInstaller.watch({ channel: Orders, delivery: "durable" })
      yield* sql`insert into orders values (7)`
      const [row] = yield* sql<{ readonly channel: string; readonly payload: string }>`
        select channel, payload from realtime.messages`
      expect(row!.channel).toBe(Orders.name)
      expect(Orders.decode(JSON.parse(row!.payload))).toMatchObject({
        success: { operation: "INSERT", data: { id: 7 }, key: { id: 7 } }
      })
    }).pipe(Effect.provide(layerInstalled()))
  )
})
