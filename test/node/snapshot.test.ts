/** The class RealtimeServer reads the state of a page: typed rows with their cursor. */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { expectTypeOf } from "vitest"
import * as Channel from "../../src/Channel.ts"
import * as PgType from "../../src/PgType.ts"
import { RealtimeServer } from "../../src/node/RealtimeServer.ts"
import type { Snapshot } from "../../src/RealtimeEvent.ts"
import * as PgInstaller from "../../src/server/PgInstaller.ts"
import {
  database,
  execute,
  installedDatabase,
  layerInstalledDatabase,
  TestDatabase
} from "../support/database.ts"
import { addressOf, httpServer } from "../support/httpServer.ts"
import { greet } from "../support/wire.ts"

const Order = Schema.Struct({ id: PgType.int8, total: PgType.numeric, status: Schema.String })
type Order = typeof Order.Type
const Orders = Channel.tableUpdates("orders", Order, { delivery: "durable" })

const serverOn = (url: string, options: RealtimeServer.Options = {}) =>
  Effect.gen(function* () {
    const http = yield* httpServer
    const server = yield* Effect.acquireRelease(
      Effect.sync(
        () =>
          new RealtimeServer(http, url, { channels: [Orders], authorize: () => true, ...options })
      ),
      (server) => Effect.promise(() => server.close())
    )
    return { server, ws: `ws://${addressOf(http)}/realtime` }
  })

const Notes = Channel.make("notes", Schema.Struct({ text: Schema.String }), { delivery: "durable" })

const rejected = (promise: Promise<unknown>) =>
  Effect.map(Effect.flip(Effect.tryPromise(() => promise)), ({ cause }) => cause)

describe("snapshot of the class", () => {
  it.live("a page resumes from the cursor of a snapshot and receives each later event once", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      yield* execute(url, "create table orders (id int8 primary key, total numeric, status text)")
      yield* PgInstaller.watch({ channel: Orders.name, table: "orders", delivery: "durable" })
      const { server, ws } = yield* serverOn(url)
      yield* execute(
        url,
        "insert into orders values (1311768467463790321, 10.50, 'new'), (2, 1, 'old')"
      )
      const state = yield* Effect.promise(() =>
        server.snapshot("select * from orders where status = $1", ["new"], { row: Order })
      )
      expect(state._tag).toBe("Snapshot")
      expect(state.value.map(({ id, status }) => [id, status])).toEqual([
        [1311768467463790321n, "new"]
      ])
      // What an HTTP answer carries to the page has every digit.
      expect(JSON.stringify(state.value)).toBe(
        `[{"id":"1311768467463790321","total":10.5,"status":"new"}]`
      )
      yield* execute(url, "insert into orders values (3, 3, 'new')")
      const wire = yield* greet(ws)
      wire.send({ type: "subscribe", id: 1, channel: Orders.name, cursor: state.cursor })
      const { events } = yield* wire.next("events")
      expect(events.map(({ data }) => data)).toMatchObject([{ data: { id: 3 } }])
    }).pipe(Effect.provide(layerInstalledDatabase))
  )

  it.live("a snapshot without a row Schema gives unknown rows with the values of events", () =>
    Effect.gen(function* () {
      const { url } = yield* installedDatabase
      const { server } = yield* serverOn(url)
      const state = yield* Effect.promise(() =>
        server.snapshot("select $1::int id, '2026-01-01Z'::timestamptz at -- the end", [5])
      )
      expect([...state.value]).toEqual([{ id: 5, at: "2026-01-01T00:00:00+00:00" }])
      expect(JSON.parse(JSON.stringify(state))).toEqual({ ...state, value: [...state.value] })
    })
  )

  it.live("snapshot waits for the start, and rejects with typed errors", () =>
    Effect.gen(function* () {
      const { url } = yield* installedDatabase
      const { server } = yield* serverOn(url)
      // Asked before the server is ready.
      expect((yield* Effect.promise(() => server.snapshot("select 1 one"))).value).toHaveLength(1)
      expect(yield* rejected(server.snapshot("select * from nowhere"))).toMatchObject({
        _tag: "TransactionError",
        reason: "query",
        code: "42P01"
      })
      expect(yield* rejected(server.snapshot("delete from realtime.messages"))).toMatchObject({
        _tag: "TransactionError"
      })
      const mismatch = yield* rejected(
        server.snapshot("select 'hidden' id", [], { row: Schema.Struct({ id: Schema.Int }) })
      )
      expect(mismatch).toMatchObject({ _tag: "RowMismatch", path: `["id"]` })
      expect(String(mismatch)).not.toContain("hidden")
      // @ts-expect-error the values come before the options
      expect(yield* rejected(server.snapshot("select 1", { row: Order }))).toMatchObject({
        _tag: "InvalidOption",
        option: "values"
      })
      yield* Effect.promise(() => server.close())
      expect(yield* rejected(server.snapshot("select 1"))).toMatchObject({
        _tag: "ServerClosed",
        before: "the state was read"
      })
    })
  )

  it.live("a database without our objects rejects a snapshot with NotInstalled", () =>
    Effect.gen(function* () {
      const { url } = yield* database
      const { server } = yield* serverOn(url, { channels: Channel.known() })
      const failed = yield* rejected(server.snapshot("select 1"))
      expect(failed).toMatchObject({ _tag: "NotInstalled" })
    })
  )

  it.live("a server in a schema of its own reads and consumes there", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      yield* PgInstaller.install({ schema: "mine" })
      const { server } = yield* serverOn(url, { schema: "mine", channels: [Notes] })
      const { cursor } = yield* Effect.promise(() => server.snapshot("select 1;"))
      const got = Promise.withResolvers<string>()
      server.consume(Notes, {
        name: "mine",
        start: { cursor },
        onEvents: ([event]) => got.resolve(event?._tag === "Event" ? event.payload.text : "gap")
      })
      yield* Effect.promise(() => server.publish(Notes, { text: "hello" }))
      expect(yield* Effect.promise(() => got.promise)).toBe("hello")
    }).pipe(Effect.provide(layerInstalledDatabase))
  )

  it("snapshot gives the type of its row Schema", () => {
    const typed = (server: RealtimeServer) =>
      [
        server.snapshot("select 1"),
        server.snapshot("select 1", [], { row: Order }),
        server.snapshot<Order>("select 1", [])
      ] as const
    expectTypeOf(typed).returns.toEqualTypeOf<
      readonly [
        Promise<Snapshot<ReadonlyArray<unknown>>>,
        Promise<Snapshot<ReadonlyArray<Order>>>,
        Promise<Snapshot<ReadonlyArray<Order>>>
      ]
    >()
  })
})
