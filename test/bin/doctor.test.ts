/** `doctor` names each thing that is not as it should be, says what to change, and changes nothing. */
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Clock, Effect } from "effect"
import { execFileSync } from "node:child_process"
import { randomBytes } from "node:crypto"
import { oldestAge } from "../../src/server/internal/sql/inspection.ts"
import * as PgInstaller from "../../src/server/PgInstaller.ts"
import { layerInstalled } from "../server/support/durable.ts"
import { execute, layerDatabase, serverUrl, TestDatabase } from "../support/database.ts"
import { freePort } from "../support/freePort.ts"
import { executablePath as bouncer, pgbouncer } from "../support/pgbouncer.ts"
import { recorded } from "./support/guide.ts"
import { record } from "./support/run.ts"

const doctor = (url: string, ...args: ReadonlyArray<string>) =>
  record(["doctor", "--database", url, ...args])

/** Another test of this server may have a transaction open, or fill the queue. */
const quiet = ["--ignore", "transactions", "--ignore", "queue"]

/** Each check that has something to change, with all it says. */
const toChange = (stdout: string): Readonly<Record<string, string>> => {
  const found: Record<string, string> = {}
  for (const one of stdout.split(/^(?=\S)/m)) {
    const [, check, text] = /^FIX {2}(\w+) +([^]*)$/.exec(one) ?? []
    if (check !== undefined) found[check] = (found[check] ?? "") + text
  }
  return found
}

/** The URL for another user, with the same rights to log in. */
const as = (url: string, user: string): string => {
  const there = new URL(url)
  if (there.searchParams.has("user")) there.searchParams.set("user", user)
  else there.username = user
  return there.href
}

/** A name for a role, which is dropped after the database that grants it rights. */
const roleName = Effect.acquireRelease(
  Effect.sync(() => `doctor_${randomBytes(4).toString("hex")}`),
  (name) => Effect.orDie(execute(serverUrl(), `drop role if exists ${name}`))
)

describe("doctor", () => {
  it.live("finds nothing to change for a node with its role, as the guide shows it", () =>
    Effect.gen(function* () {
      const node = yield* roleName
      yield* Effect.gen(function* () {
        const { name, url } = yield* TestDatabase
        yield* execute(url, `alter role ${node} login`)
        const { code, stderr, stdout } = yield* doctor(as(url, node))
        expect([code, stderr, toChange(stdout)]).toEqual([0, "", {}])
        const shown = stdout
          .replace(/PostgreSQL [\d.]+/, "PostgreSQL 18.4")
          .replaceAll(name, "app")
          .replaceAll(node, "app_node")
          .replace(/(agree within|queue is|has) [\d.]+/g, (_, before) =>
            before === "agree within" ? "agree within 0.1" : `${before} 0`
          )
        expect(shown).toBe(recorded("doctor"))
      }).pipe(Effect.provide(layerInstalled({ roles: { node } })))
    }).pipe(Effect.scoped)
  )

  it.live("names the grants that a role lacks, and looks at what it may", () =>
    Effect.gen(function* () {
      const user = yield* roleName
      yield* Effect.gen(function* () {
        const { url } = yield* TestDatabase
        yield* execute(url, `create role ${user} login`)
        const { code, stderr, stdout } = yield* doctor(as(url, user), ...quiet)
        expect([code, stderr.trim()]).toEqual([1, "error: 1 thing is to be changed."])
        const { rights = "" } = toChange(stdout)
        expect(rights).toContain(`grant usage on schema realtime to ${user}`)
        expect(rights).toContain(`grant select on realtime.messages to ${user}`)
        expect(rights).toContain(`grant execute on function realtime.open(integer) to ${user}`)
        expect(rights).toContain(`grant select on sequence realtime.messages_id_seq to ${user}`)
        expect(stdout).toMatch(/^-- {3}wake +the role of this connection may not read it/m)
        // Other commands say the same when they are refused.
        for (const args of [
          ["publish", "jobs", "1", "--delivery", "durable"],
          ["tail", "jobs", "--delivery", "durable"]
        ]) {
          const refused = yield* record([...args, "--database", as(url, user)])
          expect([refused.code, refused.stderr]).toEqual([
            1,
            expect.stringContaining(`grant usage on schema realtime to ${user}`)
          ])
        }
        const other = yield* doctor(url, ...quiet, "--role", `${user}_gone`)
        expect(toChange(other.stdout)).toEqual({
          rights: expect.stringContaining(`There is no role "${user}_gone".`)
        })
      }).pipe(Effect.provide(layerInstalled()))
    }).pipe(Effect.scoped)
  )

  it.live("names everything that was taken apart", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      const sql = yield* PgClient.PgClient
      yield* sql`create table orders (id int primary key)`
      yield* PgInstaller.watch({ channel: "table_updates_orders", delivery: "durable" })
      yield* sql`alter table orders disable trigger all`
      yield* sql`drop trigger wake on realtime.messages`
      yield* sql`alter table realtime.messages set (autovacuum_enabled = false)`
      yield* sql`update realtime.settings set digest = 'other'`
      yield* sql`insert into realtime.messages (channel, payload, created_at)
        select 'old', '1', now() - interval '3 days' from generate_series(1, 2)`
      expect(yield* oldestAge(sql)).toBeGreaterThan(2.9 * 86_400_000)
      const before = yield* sql`select * from realtime.watched`
      const definitions = "test/server/support/tables.ts"
      const { code, stdout } = yield* doctor(url, ...quiet, "--definitions", definitions)
      expect([code, toChange(stdout)]).toEqual([
        1,
        {
          install: expect.stringContaining("another build of effect-realtime installed them"),
          tables: expect.stringContaining("some of its triggers are gone or disabled"),
          wake: expect.stringContaining("the trigger that wakes readers is gone"),
          retention: expect.stringContaining("no node removes old messages"),
          autovacuum: expect.stringContaining("Autovacuum is off for realtime.messages")
        }
      ])
      const { tables = "" } = toChange(stdout)
      expect(tables).toContain(
        'No table is watched for the durable channel "table_updates_messages"'
      )
      expect(tables).toContain("with other options than its definition: filter is [] there")
      expect(yield* sql`select * from realtime.watched`).toEqual(before)
    }).pipe(Effect.provide(layerInstalled()))
  )

  it.live("says what cures it: each line that it prints, run as it is", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      const sql = yield* PgClient.PgClient
      yield* sql`create table orders (id int primary key, status text, secret text)`
      yield* sql`create table items (id int primary key)`
      const watch = ["--watch-durable", "orders", "--columns", "id,status", "--old"]
      const condition = ["--when-insert", "new.status <> 'it''s new'", "--watch-durable", "items"]
      const run = (args: ReadonlyArray<string>) => record(["sql", ...args, "--database", url])
      yield* run([...watch, ...condition, "--apply"])
      const before = yield* sql`select channel, definition from realtime.watched`
      yield* sql`alter table orders disable trigger all`
      yield* sql`drop table items`
      yield* sql`drop function realtime.prune(int)`
      const ill = yield* doctor(url, ...quiet)
      expect(ill.code).toBe(1)
      expect(toChange(ill.stdout)).toMatchObject({
        install: expect.stringContaining("Functions of schema realtime are gone: prune."),
        tables: expect.stringContaining("some of its triggers are gone or disabled")
      })
      const cures = [...ill.stdout.matchAll(/npx effect-realtime (sql .*--apply)/g)]
      expect(cures).toHaveLength(3)
      for (const [, command] of cures) {
        const words = execFileSync("bash", ["-c", `printf '%s\\n' ${command}`], {
          encoding: "utf8"
        })
        expect(yield* record([...words.trimEnd().split("\n"), "--database", url])).toMatchObject({
          code: 0,
          stderr: ""
        })
      }
      const well = yield* doctor(url, ...quiet)
      expect([well.code, toChange(well.stdout)]).toEqual([0, {}])
      expect(yield* sql`select channel, definition from realtime.watched`).toEqual(
        before.filter((row) => row["channel"] !== "table_updates_items")
      )
    }).pipe(Effect.provide(layerInstalled()))
  )

  it.live("says how to watch a table again without letting more travel, and names that table", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      const sql = yield* PgClient.PgClient
      yield* sql`create table a (id int primary key)`
      yield* sql`create table b (id int primary key, "a b" text, secret text)`
      yield* sql`create table "x=y" (id int primary key)`
      yield* sql`create table keys (id int primary key, secret text)`
      yield* sql`create table fits (id int primary key)`
      const watches = [
        ["--watch-durable", "a=both", "--shared"],
        ["--watch-durable", "b=both", "--shared", "--columns", "id,a b", "--max-bytes", "0"],
        ["--watch-durable", '"x=y"=equal'],
        ["--watch", "keys", "--max-bytes", "0"],
        ["--watch-durable", "fits", "--max-bytes", "7967"]
      ].flat()
      const run = (args: ReadonlyArray<string>) => record(["sql", ...args, "--database", url])
      expect(yield* run([...watches, "--apply"])).toMatchObject({ code: 0, stderr: "" })
      const read = sql`select name, channel, definition from realtime.watched order by name`
      const before = yield* read
      for (const { name } of before) {
        yield* sql.unsafe(`alter table ${String(name)} disable trigger all`)
      }
      // As a dump of another table brings one.
      yield* sql`create trigger "!realtime_999_row" after insert on b for each row execute function realtime.row_nested('999')`
      const ill = yield* doctor(url, ...quiet)
      const cures = [...ill.stdout.matchAll(/npx effect-realtime (sql .*--apply)/g)].map(
        ([, line]) => line!
      )
      expect(cures.toSorted()).toEqual([
        `sql --watch public.keys=table_updates_keys --max-bytes 0 --apply`,
        `sql --watch-durable 'public."x=y"=equal' --apply`,
        `sql --watch-durable public.a=both --shared --apply`,
        `sql --watch-durable public.b=both --columns 'id,a b' --max-bytes 0 --shared --apply`,
        `sql --watch-durable public.b=both --columns 'id,a b' --max-bytes 0 --shared --apply`,
        `sql --watch-durable public.fits=table_updates_fits --max-bytes 7967 --apply`
      ])
      for (const command of cures) {
        const words = execFileSync("bash", ["-c", `printf '%s\\n' ${command}`], {
          encoding: "utf8"
        })
        expect(yield* record([...words.trimEnd().split("\n"), "--database", url])).toMatchObject({
          code: 0,
          stderr: ""
        })
      }
      expect(yield* read).toEqual(before)
      expect(toChange((yield* doctor(url, ...quiet)).stdout)).toEqual({})
      expect(yield* run(["--unwatch", '"x=y"=equal', "--apply"])).toMatchObject({ code: 0 })
    }).pipe(Effect.provide(layerInstalled()))
  )

  it.live("says how the channel of a table gets another table that took its name", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      const sql = yield* PgClient.PgClient
      yield* sql`create schema archive`
      const tables = ["dropped", "renamed", "moved", "swap_a", "swap_b", "both", "Odd name"]
      for (const name of tables) {
        yield* sql.unsafe(`create table "${name}" (id int primary key, status text, secret text)`)
      }
      const run = (line: string) => {
        const words = execFileSync("bash", ["-c", `printf '%s\\n' ${line}`], { encoding: "utf8" })
        return record([...words.trimEnd().split("\n"), "--database", url])
      }
      const done = { code: 0, stderr: "" }
      for (const [at, name] of tables.entries()) {
        const line = `sql --watch-durable '${name}=changes_${at}' --columns id,status --apply`
        expect(yield* run(line)).toMatchObject(done)
      }
      const read = sql`select name, channel, definition from realtime.watched order by channel, name`
      const before = yield* read
      for (const statement of [
        "drop table dropped",
        "alter table renamed rename to earlier",
        "alter table moved set schema archive",
        "alter table swap_a rename to swap_c",
        "alter table swap_b rename to swap_a",
        "alter table swap_c rename to swap_b",
        `alter table "both" rename to "both before"`,
        `alter table "Odd name" rename to "Odd.name"`,
        ...["dropped", "renamed", "moved", "both", "Odd name"].map(
          (name) => `create table "${name}" (id int primary key, status text, secret text)`
        )
      ]) {
        yield* sql.unsafe(statement)
      }
      // Of one the new table is watched already, and with fewer columns.
      yield* run("sql --watch-durable both=changes_5 --shared --columns id --apply")
      const ill = yield* doctor(url, ...quiet)
      expect(ill.code).toBe(1)
      const cures = [...ill.stdout.matchAll(/npx effect-realtime (sql .*--apply)/g)].map(
        ([, line]) => line!
      )
      expect(cures.toSorted()).toEqual(
        [
          "sql --watch-durable public.dropped=changes_0 --columns id,status --apply",
          "sql --unwatch public.earlier=changes_1 --apply",
          "sql --watch-durable public.renamed=changes_1 --columns id,status --apply",
          "sql --unwatch archive.moved=changes_2 --apply",
          "sql --watch-durable public.moved=changes_2 --columns id,status --apply",
          "sql --unwatch public.swap_b=changes_3 --apply",
          "sql --watch-durable public.swap_a=changes_3 --columns id,status --apply",
          "sql --unwatch public.swap_a=changes_4 --apply",
          "sql --watch-durable public.swap_b=changes_4 --columns id,status --apply",
          `sql --unwatch 'public."both before"=changes_5' --apply`,
          `sql --unwatch 'public."Odd.name"=changes_6' --apply`,
          `sql --watch-durable 'public."Odd name"=changes_6' --columns id,status --apply`
        ].toSorted()
      )
      for (const command of cures) expect(yield* run(command)).toMatchObject(done)
      const well = yield* doctor(url, ...quiet)
      expect([well.code, toChange(well.stdout)]).toEqual([0, {}])
      // The same columns travel as before, and of the one that was watched already no more.
      const kept = before.find((row) => row["channel"] === "changes_5")!
      Object(kept["definition"]).columns = ["id"]
      expect(yield* read).toEqual(before)
    }).pipe(Effect.provide(layerInstalled()))
  )

  it.live("unwatches a table that is gone also where another one has its name", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      const sql = yield* PgClient.PgClient
      const again = sql`create table orders (id int primary key)`
      yield* again
      yield* PgInstaller.watch({ channel: "table_updates_orders", delivery: "durable" })
      yield* sql`drop table orders`
      yield* again
      const { code } = yield* record(["sql", "--unwatch", "orders", "--apply", "--database", url])
      const well = yield* doctor(url, ...quiet)
      expect([code, well.code, toChange(well.stdout)]).toEqual([0, 0, {}])
    }).pipe(Effect.provide(layerInstalled()))
  )

  it.live("names an old transaction without its query, and a clock that is off", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      const sql = yield* PgClient.PgClient
      const real = yield* Clock.Clock
      const late = {
        currentTimeMillisUnsafe: () => real.currentTimeMillisUnsafe() - 60_000,
        currentTimeMillis: Effect.map(real.currentTimeMillis, (now) => now - 60_000)
      }
      const clock = Object.assign(Object.create(real) as Clock.Clock, late)
      const run = doctor(url, "--old-transaction", "0 millis", "--json").pipe(
        Effect.provideService(Clock.Clock, clock)
      )
      const { code, stdout } = yield* sql.withTransaction(
        Effect.andThen(sql`select 'a secret'`, run)
      )
      expect(code).toBe(1)
      const found = stdout
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line) as { check: string; status: string; text: string })
      const of = (check: string) => found.filter((one) => one.check === check)
      expect(of("clock")[0]).toMatchObject({
        status: "fix",
        text: expect.stringMatching(/differ by (59\.\d|60\.0) s/)
      })
      expect(of("transactions")[0]).toMatchObject({
        status: "fix",
        cure: expect.stringContaining("pg_terminate_backend"),
        text: expect.stringContaining("A transaction is open for 0 seconds")
      })
      expect(stdout).not.toContain("secret")
    }).pipe(Effect.provide(layerDatabase))
  )

  it.live("says in the words of the flag from when on a transaction is old", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      const help = yield* record(["doctor", "--help"])
      const said = (...args: ReadonlyArray<string>) =>
        Effect.map(
          doctor(url, ...args),
          ({ stdout }) => /^.. {3}transactions +(.*)$/m.exec(stdout)?.[1]
        )
      expect(yield* said()).toBe("none is open for more than 5 minutes")
      expect(help.stdout).toContain("(default: 5 minutes)")
      expect(yield* said("--old-transaction", "9030500 millis")).toBe(
        "none is open for more than 2 hours 30 minutes 30.5 seconds"
      )
    }).pipe(Effect.provide(layerDatabase))
  )

  it.live.skipIf(bouncer === undefined)("names a pooler that swallows LISTEN", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      const pooled = yield* pgbouncer(url, 5)
      const { code, stdout } = yield* doctor(pooled, ...quiet)
      expect([code, toChange(stdout)]).toEqual([
        1,
        { listen: expect.stringContaining("A transaction pooler such as PgBouncer drops LISTEN") }
      ])
      const direct = yield* doctor(pooled, ...quiet, "--listen", url)
      expect([direct.code, toChange(direct.stdout)]).toEqual([0, {}])
    }).pipe(Effect.scoped, Effect.provide(layerInstalled()))
  )

  it.live(
    "ends with 2 where it could not look, 64 for a URL that is none, and 1 where nothing is installed",
    () =>
      Effect.gen(function* () {
        const { name, url } = yield* TestDatabase
        const gone = yield* doctor(`postgres://nobody@127.0.0.1:${yield* freePort}/app`)
        expect([gone.code, gone.stdout]).toEqual([2, ""])
        expect(gone.stderr).toContain("The database cannot be looked at: ")
        const misnamed = yield* doctor(url.replace(name, "not_there"))
        expect([misnamed.code, misnamed.stderr]).toEqual([
          2,
          expect.stringContaining("Create the database, or correct its name in the database URL")
        ])
        const unread = yield* doctor("postgres://db/app?sslmode=perhaps")
        expect([unread.code, unread.stderr]).toEqual([
          64,
          expect.stringContaining("sslmode=perhaps")
        ])
        const empty = yield* doctor(url, ...quiet)
        const ofInstall = /^.{5}(install|rights|tables|wake|retention)\b.*\n(?: +\S.*\n)*/gm
        expect([empty.code, empty.stdout.match(ofInstall)?.join("")]).toEqual([
          1,
          recorded("doctor-empty")
        ])
      }).pipe(Effect.provide(layerDatabase))
  )
})
