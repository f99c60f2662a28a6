/** Every test file has a database of its own on the server of its worker. */
import { expect, it, layer } from "@effect/vitest"
import { Effect } from "effect"
import { SqlClient } from "effect/sql"
import { database, execute, layerDatabase, serverUrl, TestDatabase } from "./database.ts"

const names = Effect.map(
  execute(serverUrl(), "select datname::text as name from pg_database"),
  (rows) => rows.map((row) => row["name"])
)

it.live("a database is there for its scope, and dropped with its sessions", () =>
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
  it.effect("connects to a database with nothing in it", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const { name } = yield* TestDatabase
      const [row] = yield* sql`select current_database()::text as name,
        (select count(*)::int from pg_class where relnamespace = 'public'::regnamespace) as relations`
      expect(row).toEqual({ name, relations: 0 })
    })
  )

  it.effect.skipIf(process.env["REALTIME_TEST_DATABASE_URL"])(
    "is on a server with the settings that tests need",
    () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const [row] = yield* sql`select current_setting('max_connections') as connections,
          current_setting('max_prepared_transactions') as prepared`
        expect(row).toEqual({ connections: "200", prepared: "20" })
      })
  )
})
