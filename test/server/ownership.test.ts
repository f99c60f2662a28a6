/** What an install looks at before it touches anything, and what an uninstall leaves alone. */
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

describe("a schema realtime of somebody else", () => {
  for (const [title, setup] of [
    ["with a type only", "create type realtime.mood as enum ('fine')"],
    ["with tables", "create table realtime.settings (id int, name text)"],
    [
      "with a function only",
      "create function realtime.now() returns int language sql as 'select 1'"
    ],
    [
      "with tables of our names",
      "create table realtime.messages (id bigint, channel text, payload text)"
    ]
  ] as const) {
    it.live(`${title} is refused before anything is touched, and not uninstalled`, () =>
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

  it.live("that is empty is taken", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      yield* sql`create schema realtime`
      yield* PgInstaller.install()
      yield* PgInstaller.check
      // It was there before, and stays.
      yield* PgInstaller.uninstall
      expect(yield* sql.unsafe(everything)).toEqual([])
      expect(yield* sql`select nspname from pg_namespace where nspname = 'realtime'`).toHaveLength(
        1
      )
    }).pipe(Effect.provide(layerDatabase))
  )
})

describe("an uninstall", () => {
  it.live("takes away what was installed and nothing else", () =>
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

  it.live("fails and changes nothing where somebody has built on a table of ours", () =>
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

describe("a newer version", () => {
  it.live("is not touched by the printed SQL of this one", () =>
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

  it.live("than version 2 is not touched by the printed SQL of version 2", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const db = yield* session
      const { PgInstaller: Old } = yield* version2
      const before = yield* sql.unsafe(everything)
      const error = yield* Effect.flip(script(db, Old.sql({ wake: "poll" })))
      expect(sqlMessage(error)).toContain("a newer version of effect-realtime is installed")
      yield* db.query("rollback", [], false)
      expect(yield* sql.unsafe(everything)).toEqual(before)
      // Its library leaves a newer one as it is, and may go on publishing.
      yield* Old.install()
      yield* Old.check
      yield* publish("room", 1)
    }).pipe(Effect.scoped, Effect.provide(layerInstalled()))
  )
})
