/** Runs the code of the guide about plain Node. */
import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { RealtimeServer } from "effect-realtime/node"
import { PgInstaller } from "effect-realtime/server"
import { DurableOrders } from "../../examples/channels.ts"
import { copyOrders, newOrders } from "../../examples/node/orders.ts"
import { execute, layerInstalledDatabase, TestDatabase } from "../support/database.ts"
import { httpServer } from "../support/httpServer.ts"

describe("examples/node", () => {
  it.live("orders.ts: reads the state of a page, and copies a table, also after a gap", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      yield* execute(url, "create table orders (id int primary key, customer text, status text)")
      yield* execute(url, "create table copies (id int primary key, status text)")
      yield* PgInstaller.watch({
        channel: DurableOrders.name,
        table: "orders",
        delivery: "durable"
      })
      const http = yield* httpServer
      const server = yield* Effect.acquireRelease(
        Effect.sync(
          () => new RealtimeServer(http, url, { channels: [DurableOrders], authorize: () => true })
        ),
        (server) => Effect.promise(() => server.close())
      )
      copyOrders(server)
      const copies = (expected: ReadonlyArray<object>) =>
        execute(url, "select * from copies order by id").pipe(
          Effect.delay(20),
          Effect.repeat({ until: (rows) => JSON.stringify(rows) === JSON.stringify(expected) }),
          Effect.timeout("10 seconds")
        )
      yield* execute(url, "insert into orders values (1, 'ann', 'new'), (2, 'bob', 'new')")
      yield* execute(url, "update orders set status = 'shipped' where id = 1")
      yield* copies([
        { id: 1, status: "shipped" },
        { id: 2, status: "new" }
      ])
      const state = yield* Effect.promise(() => newOrders(server))
      expect([...state.value]).toEqual([{ id: 2, customer: "bob", status: "new" }])
      yield* execute(url, "delete from orders where id = 2")
      yield* copies([{ id: 1, status: "shipped" }])
      yield* execute(url, "truncate orders")
      yield* copies([])
    }).pipe(Effect.provide(layerInstalledDatabase))
  )
})
