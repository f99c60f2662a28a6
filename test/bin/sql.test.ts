/** `sql` prints what `PgInstaller` would run, or with `--apply` runs it; `nats` prints permissions. */
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import * as PgInstaller from "../../src/server/PgInstaller.ts"
import { layerDatabase, TestDatabase } from "../support/database.ts"
import { recorded } from "./support/guide.ts"
import { record } from "./support/run.ts"

const watchedTables = Effect.flatMap(
  PgClient.PgClient,
  (sql) => sql`select channel, delivery, level, definition from realtime.watched order by channel`
)

describe("sql", () => {
  it.live("gives each option to the table before it", () =>
    Effect.gen(function* () {
      const { code, stdout } = yield* record(
        [
          ["sql", "--schema", "events", "--wake", "poll", "--retention", "36 hours"],
          ["--max-messages", "none", "--lock-timeout", "2 seconds", "--node-role", "app_node"],
          ["--watch", "orders=changes", "--columns", "id, name", "--old"],
          ["--when-insert", "new.open", "--when-delete=old.open"],
          ["--watch-durable", "app.lines", "--level", "statement", "--always"],
          ["--max-bytes", "900", "--watch=notes", "--shared"]
        ].flat()
      )
      expect(code).toBe(0)
      expect(stdout).toBe(
        PgInstaller.sql({
          schema: "events",
          wake: "poll",
          retention: "36 hours",
          maxMessages: null,
          lockTimeout: "2 seconds",
          roles: { node: "app_node" },
          watch: [
            {
              channel: "changes",
              table: "orders",
              columns: ["id", "name"],
              old: true,
              when: { insert: "new.open", delete: "old.open" }
            },
            {
              channel: "table_updates_lines",
              table: { schema: "app", name: "lines" },
              delivery: "durable",
              level: "statement",
              always: true,
              maxBytes: 900
            },
            { channel: "table_updates_notes", shared: true }
          ]
        })
      )
    })
  )

  it.live("takes a name with = or . in double quotes, as SQL does", () =>
    Effect.gen(function* () {
      const table = { schema: "my.app", name: 'x="y".z' }
      expect((yield* record(["sql", "--watch", '"my.app"."x=""y"".z"=changes'])).stdout).toBe(
        PgInstaller.sql({ watch: [{ channel: "changes", table }] })
      )
      expect((yield* record(["sql", "--watch", '"x=y"'])).stderr).toContain(
        `Table "x=y" gives no channel name, because "table_updates_x=y" contains a character that is not allowed. Name the channel: '"x=y"=my_channel'.`
      )
      expect((yield* record(["sql", "--watch", "x=y=z"])).stderr).toContain(
        'A name with "=" or "." stands in double quotes'
      )
    })
  )

  it.live("applies, unwatches and uninstalls in a database, and says each step", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      const sql = yield* PgClient.PgClient
      yield* sql`create table orders (id int primary key, status text)`
      const apply = (...args: ReadonlyArray<string>) =>
        record(["sql", ...args, "--apply"], { env: { DATABASE_URL: url } })
      const watch = ["--watch-durable", "orders", "--columns", "id,status"]
      // It may run again.
      for (const once of [yield* apply(...watch), yield* apply(...watch)]) {
        expect(once).toEqual({ code: 0, stdout: recorded("sql-apply"), stderr: "" })
      }
      expect(yield* watchedTables).toMatchObject([
        { channel: "table_updates_orders", delivery: "durable", level: "row" }
      ])
      // Nothing of it is left, as of the printed SQL.
      yield* sql`create table other (id int primary key)`
      const half = yield* apply("--watch", "other", "--watch", "gone")
      expect([half.code, half.stdout]).toEqual([1, ""])
      expect(yield* watchedTables).toHaveLength(1)
      const refused = yield* apply("--watch", "gone")
      expect([refused.code, refused.stderr]).toEqual([
        1,
        expect.stringContaining("Table public.gone is not watched")
      ])
      const unwatch = ["sql", "--unwatch", "orders", "--unwatch", "app.lines=changes"]
      expect((yield* record(unwatch)).stdout).toBe(
        PgInstaller.sqlUnwatch([
          { channel: "table_updates_orders" },
          { channel: "changes", table: { schema: "app", name: "lines" } }
        ])
      )
      expect((yield* apply("--unwatch", "orders")).stdout).toBe(
        "no longer watched: public.orders for channel table_updates_orders\n"
      )
      expect(yield* watchedTables).toEqual([])
      expect((yield* record(["sql", "--uninstall"])).stdout).toBe(PgInstaller.sqlUninstall())
      expect((yield* apply("--uninstall")).stdout).toBe("removed the objects of schema realtime\n")
      expect(yield* sql`select from pg_namespace where nspname = 'realtime'`).toEqual([])
    }).pipe(Effect.provide(layerDatabase))
  )
})

describe("nats", () => {
  it.live("prints the permissions that the guide shows", () =>
    Effect.gen(function* () {
      expect(yield* record(["nats"])).toEqual({ code: 0, stdout: recorded("nats"), stderr: "" })
    })
  )
})
