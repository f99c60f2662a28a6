/** What an install checks before it changes anything, and what an uninstall leaves alone. */
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { sqlMessage, sqlState } from "../../src/server/internal/link/sqlState.ts"
import { schemaVersion } from "../../src/server/internal/sql/schema.ts"
import * as PgInstaller from "../../src/server/PgInstaller.ts"
import { layerDatabase } from "../support/database.ts"
import { layerInstalled, publish, session } from "./support/durable.ts"
import { script } from "./support/script.ts"
import { version2 } from "./support/version2.ts"

const everything = `
  select 'table ' || c.relname as what from pg_class c where c.relnamespace = to_regnamespace('realtime')
  union all select 'function ' || p.proname from pg_proc p where p.pronamespace = to_regnamespace('realtime')
  order by 1`

describe("A schema realtime of another application", () => {
  for (const [title, setup] of [
    ["with a type only", "create type realtime.mood as enum ('fine')"],
    ["with tables", "create table realtime.settings (id int, name text)"],
    [
      "with a function only",
      "create function realtime.now() returns int language sql as 'select 1'"
    ],
    [
      "with tables named as ours",
      "create table realtime.messages (id bigint, channel text, payload text)"
    ]
  ] as const) {
    it.live(`a schema ${title} is rejected by install and uninstall, unchanged`, () =>
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        yield* sql`create schema realtime`
        yield* sql.unsafe(setup)
        const before = yield* sql.unsafe(everything)
        const rights = sql`select nspacl::text from pg_namespace where nspname = 'realtime'`
        const allowed = yield* rights
        for (const attempt of [PgInstaller.install({ wake: "poll" }), PgInstaller.uninstall]) {
          const error = yield* Effect.flip(attempt)
          expect(error._tag).toBe("ForeignSchema")
          expect(error.message).toContain("Nothing was changed")
        }
        const db = yield* session
        for (const text of [PgInstaller.sql(), PgInstaller.sqlUninstall()]) {
          expect(sqlState(yield* Effect.flip(script(db, text)))).toBe("RT008")
          yield* db.query("rollback", [], false)
        }
        expect(yield* sql.unsafe(everything)).toEqual(before)
        expect(yield* rights).toEqual(allowed)
      }).pipe(Effect.scoped, Effect.provide(layerDatabase))
    )
  }

  it.live("an empty schema is used by install, and left by uninstall", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      yield* sql`create schema realtime`
      yield* PgInstaller.install()
      yield* PgInstaller.check
      // The schema existed before, and stays.
      yield* PgInstaller.uninstall
      expect(yield* sql.unsafe(everything)).toEqual([])
      expect(yield* sql`select nspname from pg_namespace where nspname = 'realtime'`).toHaveLength(
        1
      )
    }).pipe(Effect.provide(layerDatabase))
  )
})

describe("PgInstaller.uninstall", () => {
  it.live("uninstall removes exactly what install created", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      yield* sql`create table orders (id int primary key)`
      for (const [channel, level] of [
        ["a", "row"],
        ["b", "statement"]
      ] as const) {
        yield* PgInstaller.watch({ channel, table: "orders", level })
      }
      yield* sql`create table realtime.notes (id int)`
      yield* sql`create function realtime.mine() returns int language sql as 'select 1'`
      // Another function with one of our names, which was there at an upgrade.
      yield* sql`create function realtime.publish(text, int) returns int language sql as 'select 1'`
      yield* sql`update realtime.settings set digest = ''`
      yield* PgInstaller.install()
      yield* PgInstaller.uninstall
      expect(yield* sql.unsafe(everything)).toEqual([
        { what: "function mine" },
        { what: "function publish" },
        { what: "table notes" }
      ])
      expect(yield* sql`select tgname from pg_trigger where tgrelid = 'orders'::regclass`).toEqual(
        []
      )
      yield* sql`insert into orders values (1)`
    }).pipe(Effect.provide(layerInstalled()))
  )

  it.live("uninstall fails and changes nothing when a view depends on a table of ours", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      yield* sql`create view public.recent as select payload from realtime.messages`
      const before = yield* sql.unsafe(everything)
      const error = yield* Effect.flip(PgInstaller.uninstall)
      expect(sqlState(error)).toBe("2BP01")
      expect(yield* sql.unsafe(everything)).toEqual(before)
      expect(yield* sql`select * from public.recent`).toBeDefined()
    }).pipe(Effect.provide(layerInstalled()))
  )
})

describe("A newer version in the database", () => {
  it.live("the SQL printed by this version fails on a newer version, and changes nothing", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const db = yield* session
      yield* sql`update realtime.settings set version = ${schemaVersion + 1}`
      const before = yield* sql.unsafe(everything)
      const error = yield* Effect.flip(script(db, PgInstaller.sql({ wake: "poll" })))
      expect(sqlState(error)).toBe("RT009")
      expect(sqlMessage(error)).toContain("a newer version of effect-realtime is installed")
      yield* db.query("rollback", [], false)
      expect(yield* sql.unsafe(everything)).toEqual(before)
      expect(yield* sql`select version, wake from realtime.settings`).toEqual([
        { version: schemaVersion + 1, wake: "hybrid" }
      ])
    }).pipe(Effect.scoped, Effect.provide(layerInstalled()))
  )

  it.live("the SQL printed by version 2 fails on this version, and changes nothing", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const db = yield* session
      const { PgInstaller: Old } = yield* version2
      const before = yield* sql.unsafe(everything)
      const error = yield* Effect.flip(script(db, Old.sql({ wake: "poll" })))
      expect(sqlMessage(error)).toContain("a newer version of effect-realtime is installed")
      yield* db.query("rollback", [], false)
      expect(yield* sql.unsafe(everything)).toEqual(before)
      // The library of version 2 leaves this version as it is, and may go on publishing.
      yield* Old.install()
      yield* Old.check
      yield* publish("room", 1)
    }).pipe(Effect.scoped, Effect.provide(layerInstalled()))
  )
})
