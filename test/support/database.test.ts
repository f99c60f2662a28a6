/** Every test file has a database of its own on the server of its worker. */
import { PgClient } from "@effect/sql-pg"
import { expect, it, layer } from "@effect/vitest"
import { Effect, Redacted } from "effect"
import { SqlClient } from "effect/sql"
import { openStatement } from "../../src/server/internal/sql/identity.ts"
import * as PgInstaller from "../../src/server/PgInstaller.ts"
import {
  database,
  execute,
  installedDatabase,
  layerDatabase,
  serverUrl,
  TestDatabase
} from "./database.ts"

const names = Effect.map(
  execute(serverUrl(), "select datname::text as name from pg_database"),
  (rows) => rows.map((row) => row["name"])
)

it.live("a database exists for its scope, and is dropped with its sessions", () =>
  Effect.gen(function* () {
    const name = yield* Effect.scoped(
      Effect.gen(function* () {
        const { name, url } = yield* database
        expect(yield* names).toContain(name)
        yield* Effect.forkScoped(Effect.ignore(execute(url, "select pg_sleep(60)")))
        return name
      })
    )
    expect(yield* names).not.toContain(name)
  })
)

layer(layerDatabase)("layerDatabase", (it) => {
  it.effect("layerDatabase connects to an empty database", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const { name } = yield* TestDatabase
      const [row] = yield* sql`select current_database()::text as name,
        (select count(*)::int from pg_class where relnamespace = 'public'::regnamespace) as relations`
      expect(row).toEqual({ name, relations: 0 })
    })
  )

  it.effect.skipIf(process.env["REALTIME_TEST_DATABASE_URL"])(
    "the server of tests allows 200 connections and 20 prepared transactions, which they need",
    () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const [row] = yield* sql`select current_setting('max_connections') as connections,
          current_setting('max_prepared_transactions') as prepared`
        expect(row).toEqual({ connections: "200", prepared: "20" })
      })
  )
})

it.live("a copied database with everything installed equals a database after an install", () =>
  Effect.gen(function* () {
    const state = (url: string) =>
      Effect.map(
        execute(
          url,
          `select s.version, s.digest, s.wake, s.identity is not null as named, h.snapshot::text <> '1:1:' as begun,
             (select count(*)::int from realtime.epoch) as epochs, (select count(*)::int from realtime.marks) as marks,
             (select count(*)::int from pg_proc where pronamespace = 'realtime'::regnamespace) as functions
           from realtime.settings s, realtime.horizon h`
        ),
        ([row]) => row
      )
    const fresh = yield* database
    yield* PgInstaller.install().pipe(
      Effect.provide(PgClient.layer({ url: Redacted.make(fresh.url) }))
    )
    const [one, two] = [yield* installedDatabase, yield* installedDatabase]
    expect(yield* state(one.url)).toEqual(yield* state(fresh.url))
    // Each copy is a database of its own, and was never another one.
    const rows = yield* Effect.forEach([one, two, fresh], ({ url }) => execute(url, openStatement))
    expect(rows.flat().map(({ restored }) => restored)).toEqual([false, false, false])
    expect(new Set(rows.flat().map(({ identity }) => identity)).size).toBe(3)
    const epochs = yield* Effect.forEach([one, two], ({ url }) =>
      execute(url, "select id::text from realtime.epoch")
    )
    expect(epochs[0]).not.toEqual(epochs[1])
  }).pipe(Effect.scoped)
)
