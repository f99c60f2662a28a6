import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import * as PgInstaller from "../../src/server/PgInstaller.ts"
import { layerDatabase } from "../support/database.ts"

describe("PgInstaller", () => {
  it.live("installs", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      yield* PgInstaller.install({ roles: { node: "rt_node", app: "rt_app" } })
      yield* PgInstaller.install()
      yield* PgInstaller.install({ wake: "poll" })
      yield* PgInstaller.check
      console.log(yield* sql`select * from realtime.open()`)
      console.log(yield* sql`select * from realtime.open()`)
      console.log(yield* sql`select realtime.publish('a', '{"x":1}')`)
      console.log(yield* sql`select realtime.publish('a', '{"x":1}', 'k')`)
      console.log(yield* sql`select realtime.publish('a', '{"x":1}', 'k')`)
      console.log(yield* Effect.flip(sql`select realtime.publish('a', '{"x":2}', 'k')`))
      yield* sql`create table orders (id int primary key, a text, b json, c bytea)`
      yield* PgInstaller.watch({ channel: "table_updates_orders", old: true })
      yield* PgInstaller.watch({ channel: "orders_few", table: "orders", columns: ["a"] })
      yield* PgInstaller.watch({
        channel: "orders_st",
        table: "orders",
        level: "statement",
        columns: ["a", "c"]
      })
      yield* sql`insert into orders values (1, 'x', '{"n": "\\u0000"}', '\\x00ff'), (2, repeat('y', 9000000), null, null)`
      yield* sql`update orders set a = 'z'`
      yield* sql`update orders set b = '1'`
      yield* sql`update orders set id = id + 10`
      yield* sql`truncate orders`
      console.log(
        (yield* sql`select txid::text, id::text, channel, left(payload, 140) p from realtime.messages order by realtime.messages.id`)
          .map((r) => `${r.txid} ${r.id} ${r.channel} ${r.p}`)
          .join("\n")
      )
    }).pipe(Effect.provide(layerDatabase))
  )
})
