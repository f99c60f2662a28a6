/** A subscription with a filter goes on at another node of the database. */
import { expect, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import * as Channel from "../../src/Channel.ts"
import { RealtimeServer } from "../../src/node/RealtimeServer.ts"
import * as PgInstaller from "../../src/server/PgInstaller.ts"
import { execute, layerInstalledDatabase, TestDatabase } from "../support/database.ts"
import { addressOf, httpServer } from "../support/httpServer.ts"
import { greet } from "../support/wire.ts"

const Orders = Channel.table("orders", Schema.Struct({ id: Schema.Int, status: Schema.String }), {
  key: "id",
  filter: "status"
})

const wireOf = (url: string) =>
  Effect.gen(function* () {
    const http = yield* httpServer
    const server = yield* Effect.acquireRelease(
      Effect.sync(
        () => new RealtimeServer(http, url, { channels: [Orders], authorize: () => true })
      ),
      (server) => Effect.promise(() => server.close())
    )
    yield* Effect.promise(() => server.ready)
    return yield* greet(`ws://${addressOf(http)}/realtime`)
  })

it.live("another node replays what the filter has, and rejects the cursor of another filter", () =>
  Effect.gen(function* () {
    const { url } = yield* TestDatabase
    yield* execute(url, "create table orders (id int primary key, status text not null)")
    yield* PgInstaller.watch({ channel: Orders })
    const [one, other] = [yield* wireOf(url), yield* wireOf(url)]
    const where = { status: ["new"] }
    const channel = Orders.name
    one.send({ type: "subscribe", id: 1, channel, state: true, where })
    const { cursor } = yield* one.next("state")
    yield* execute(url, "insert into orders values (1, 'new'), (2, 'sent')")
    other.send({ type: "subscribe", id: 1, channel, state: true, where, cursor })
    expect(yield* other.next("subscribed")).toMatchObject({ state: "recovered" })
    expect(yield* other.next("events", "state")).toMatchObject({
      type: "events",
      events: [{ data: { operation: "INSERT", key: { id: 1 } } }]
    })
    other.send({ type: "subscribe", id: 2, channel, where: { status: ["sent"] }, cursor })
    expect(yield* other.next("subscribed")).toMatchObject({ state: "reset" })
  }).pipe(Effect.scoped, Effect.provide(layerInstalledDatabase))
)
