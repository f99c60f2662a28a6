/**
 * Watched tables of another owner, behind row-level security, and in transactions that began before
 * the watch: a row that cannot be read is a gap, and never a DELETE.
 */
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Redacted } from "effect"
import { randomBytes } from "node:crypto"
import { gapTexts } from "../../src/server/internal/gapText.ts"
import * as PgInstaller from "../../src/server/PgInstaller.ts"
import { databaseWith, execute, serverUrl } from "../support/database.ts"
import { layerInstalled, session } from "./support/durable.ts"

const payloads = PgClient.PgClient.use(
  (sql) => sql<{ readonly payload: string }>`select payload from realtime.messages order by id`
).pipe(
  Effect.map((rows) =>
    rows.map(({ payload }) =>
      payload.startsWith(" ") ? payload : (JSON.parse(payload) as unknown)
    )
  )
)

/** A database with an owner that is no superuser and is subject to row-level security. */
const layerLesser = Layer.unwrap(
  Effect.gen(function* () {
    const owner = `owner_${randomBytes(4).toString("hex")}`
    yield* Effect.acquireRelease(execute(serverUrl(), `create role ${owner} login`), () =>
      Effect.orDie(execute(serverUrl(), `drop role ${owner}`))
    )
    const { url } = yield* databaseWith(`owner ${owner}`)
    const theirs = new URL(url)
    theirs.username = owner
    return PgClient.layer({ url: Redacted.make(theirs.href) })
  })
)

describe("A watched table with row-level security", () => {
  for (const level of ["row", "statement"] as const) {
    it.live(`a row hidden by a policy never sends a DELETE, at ${level} level`, () =>
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        yield* PgInstaller.install()
        yield* sql`create table lots (id int primary key, a int)`
        yield* sql`alter table lots enable row level security`
        yield* sql`alter table lots force row level security`
        yield* sql.unsafe("create policy few on lots using (a < 5) with check (true)")
        yield* PgInstaller.watch({ channel: "table_updates_lots", delivery: "durable", level })
        yield* sql.unsafe(`create function settle() returns trigger language plpgsql as $$ begin
          if new.a = 0 then update lots set a = 1 where id = new.id; end if; return null; end $$`)
        yield* sql`create trigger settle after insert on lots for each row execute function settle()`
        yield* sql`insert into lots values (1, 0), (2, 8)`
        const told = yield* payloads
        // The second row was not changed again, and the first one has its state at commit.
        const last = new Map(
          told.flatMap((event) =>
            typeof event === "string" ? [] : [[(event as { key: { id: number } }).key.id, event]]
          )
        )
        expect(last.get(1)).toMatchObject({ data: { id: 1, a: 1 } })
        expect(told.includes(gapTexts.invalid) || last.has(2)).toBe(true)
        expect(JSON.stringify(told)).not.toContain("DELETE")
      }).pipe(Effect.provide(layerLesser))
    )
  }

  it.live("a row that another trigger inserts again and a policy hides sends a gap", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      yield* PgInstaller.install()
      yield* sql`create table lots (id int primary key, a int)`
      yield* sql`insert into lots values (1, 1)`
      yield* PgInstaller.watch({ channel: "table_updates_lots", delivery: "durable" })
      yield* sql.unsafe(`create function again() returns trigger language plpgsql as $$ begin
        insert into lots values (old.id, old.a + 8); return null; end $$`)
      // This trigger fires before ours, so that ours finds the row again.
      yield* sql.unsafe(
        `create trigger "  again" after delete on lots for each row execute function again()`
      )
      yield* sql`alter table lots enable row level security`
      yield* sql`alter table lots force row level security`
      yield* sql.unsafe("create policy few on lots using (a < 5) with check (true)")
      yield* sql`delete from lots`
      expect((yield* payloads).at(-1)).toBe(gapTexts.invalid)
    }).pipe(Effect.provide(layerLesser))
  )
})

describe("A transaction with a snapshot older than the watch", () => {
  it.live("a transaction older than the watch sends small rows, and a gap for large ones", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      yield* sql`create table big (id int primary key, text text)`
      yield* sql`create table other (id int primary key)`
      for (const level of ["row", "statement"] as const) {
        const writer = yield* session
        yield* writer.query("begin isolation level repeatable read")
        yield* writer.query("select count(*) from other")
        yield* PgInstaller.watch({ channel: level, table: "big", delivery: "durable", level })
        yield* writer.query("insert into big values (1, 'small')")
        yield* writer.query(
          "insert into big values (2, (select string_agg(md5(i::text), '') from generate_series(1, 5000) i))"
        )
        yield* writer.query("truncate big")
        yield* writer.query("commit")
        yield* PgInstaller.unwatch({ channel: level, table: "big" })
      }
      const told = [
        { operation: "INSERT", data: { id: 1, text: "small" }, key: { id: 1 } },
        gapTexts.invalid,
        gapTexts.truncate
      ]
      expect(yield* payloads).toEqual([...told, ...told])
    }).pipe(Effect.scoped, Effect.provide(layerInstalled()))
  )
})

describe("realtime.look", () => {
  it.live("look finds every way in which a watch stops working, and sends a gap for each", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const watch = (table: string, options: Partial<PgInstaller.Watch> = {}) =>
        PgInstaller.watch({ channel: table, table, delivery: "durable", ...options })
      for (const table of [
        "hidden",
        "partial",
        "replica",
        "deferred",
        "nowhere",
        "heir",
        "untold"
      ]) {
        yield* sql.unsafe(`create table ${table} (id int primary key, pub boolean)`)
      }
      yield* sql`create table parts (id int primary key) partition by range (id)`
      yield* sql`create table parts_1 partition of parts for values from (0) to (10)`
      yield* sql`create table whole (id int primary key, pub boolean) partition by range (id)`
      yield* watch("hidden", { when: { insert: "new.pub" } })
      for (const table of ["partial", "heir"]) yield* watch(table, { level: "statement" })
      for (const table of ["replica", "deferred", "nowhere", "untold", "parts"]) yield* watch(table)
      expect(yield* sql`select * from realtime.look()`).toEqual([])
      // A partition added later is no trouble.
      yield* sql`create table parts_2 partition of parts for values from (10) to (20)`
      expect(yield* sql`select * from realtime.look()`).toEqual([])

      yield* sql`alter table hidden drop column pub cascade`
      yield* sql.unsafe(`do $$ declare t name; begin
        select tgname into t from pg_trigger where tgrelid = 'partial'::regclass and tgname like '%update';
        execute format('drop trigger %I on partial', t);
        select tgname into t from pg_trigger where tgrelid = 'replica'::regclass and tgname like '%row';
        execute format('alter table replica enable replica trigger %I', t);
        select tgname into t from pg_trigger where tgrelid = 'untold'::regclass and tgname like '%truncate';
        execute format('drop trigger %I on untold', t); end $$`)
      yield* sql`alter table deferred drop constraint deferred_pkey`
      yield* sql`alter table deferred add primary key (id) deferrable`
      yield* sql`create table sons () inherits (nowhere)`
      yield* sql`alter table whole attach partition heir for values from (0) to (10)`
      yield* sql`alter table parts_1 disable trigger all`
      const found = yield* sql<{ readonly channel: string }>`
        select channel from realtime.look() order by channel`
      const all = ["deferred", "heir", "hidden", "nowhere", "partial", "parts", "replica", "untold"]
      expect(found.map(({ channel }) => channel)).toEqual(all)
      const told = yield* sql`select channel, payload from realtime.messages order by channel`
      expect(told).toEqual(all.map((channel) => ({ channel, payload: gapTexts.source })))
      // A key that is not unique at every moment names no row.
      yield* sql`insert into deferred values (1), (2)`
      expect((yield* payloads).at(-1)).toBe(gapTexts.invalid)
    }).pipe(Effect.provide(layerInstalled()))
  )
})

describe("Two watches for one channel at the same time", () => {
  it.live("two concurrent watches of one channel cannot both succeed", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const [one, other] = [yield* session, yield* session]
      for (const table of ["x1", "x2"])
        yield* sql.unsafe(`create table ${table} (id int primary key)`)
      yield* one.query("begin")
      yield* one.query("select realtime.watch('x1', channel => 'one')")
      const waiting = yield* Effect.forkChild(
        Effect.exit(other.query("select realtime.watch('x2', channel => 'one')"))
      )
      const blocked = sql`select from pg_locks l join pg_database d on d.oid = l.database
        where datname = current_database() and locktype = 'advisory' and not granted`
      yield* Effect.repeat(blocked, { until: (rows) => rows.length === 1 })
      yield* one.query("commit")
      expect((yield* Fiber.join(waiting))._tag).toBe("Failure")
      expect(yield* sql`select rel::text from realtime.watched`).toEqual([{ rel: "x1" }])
    }).pipe(Effect.scoped, Effect.provide(layerInstalled()))
  )
})
