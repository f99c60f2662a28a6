/** The class RealtimeServer follows the rows of a table, for code without Effect. */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { expectTypeOf } from "vitest"
import * as Channel from "../../src/Channel.ts"
import { RealtimeServer } from "../../src/node/RealtimeServer.ts"
import * as PgInstaller from "../../src/server/PgInstaller.ts"
import type * as Realtime from "../../src/server/Realtime.ts"
import { execute, layerInstalledDatabase, TestDatabase } from "../support/database.ts"
import { httpServer } from "../support/httpServer.ts"

const Order = Schema.Struct({ id: Schema.Int, status: Schema.String })
type Order = typeof Order.Type
const Orders = Channel.table("orders", Order, { key: "id", filter: "status" })

const serverOn = (
  url: string,
  channels: ReadonlyArray<Channel.Definition> = [Orders],
  limits: Pick<RealtimeServer.Options, "maxStateRows"> = {}
) =>
  Effect.gen(function* () {
    const http = yield* httpServer
    return yield* Effect.acquireRelease(
      Effect.sync(
        () => new RealtimeServer(http, url, { ...limits, channels, authorize: () => true })
      ),
      (server) => Effect.promise(() => server.close())
    )
  })

/** The first collection that fits. */
const first = async (
  iterator: AsyncIterator<Realtime.Rows<Order>>,
  fits: (rows: Realtime.Rows<Order>) => boolean
): Promise<Realtime.Rows<Order>> => {
  while (true) {
    // oxlint-disable-next-line no-await-in-loop -- each value follows the one before
    const { done, value } = await iterator.next()
    if (done === true) throw new Error("the rows have ended")
    if (fits(value)) return value
  }
}

describe("rows of the class", () => {
  it.live("gives the rows that a filter includes, and each change, until the server closes", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      yield* execute(url, "create table orders (id int primary key, status text)")
      yield* PgInstaller.watch({ channel: Orders })
      yield* execute(url, "insert into orders values (1, 'new'), (2, 'sent')")
      const server = yield* serverOn(url)
      yield* Effect.promise(async () => {
        const rows = server.rows(Orders, { where: { status: "new" } })
        expectTypeOf(rows).toEqualTypeOf<AsyncIterable<Realtime.Rows<Order>>>()
        const iterator = rows[Symbol.asyncIterator]()
        const before = await first(iterator, ({ status }) => status === "live")
        expect(before.rows).toEqual([{ id: 1, status: "new" }])
        await Effect.runPromise(execute(url, "update orders set status = 'new' where id = 2"))
        const after = await first(iterator, ({ rows }) => rows.length === 2)
        expect(after.rows[0]).toBe(before.rows[0])
        // Another iteration reads by itself.
        for await (const one of rows) {
          if (one.status === "loading") continue
          expect(one.rows).toEqual(after.rows)
          break
        }
        const ended = iterator.next()
        await server.close()
        expect(await ended).toEqual({ done: true, value: undefined })
        const late = server.rows(Orders)[Symbol.asyncIterator]()
        await expect(late.next()).rejects.toMatchObject({
          _tag: "ServerClosed",
          before: "the rows were read"
        })
      })
    }).pipe(Effect.scoped, Effect.provide(layerInstalledDatabase))
  )

  it.live("throws when the state has more rows than `maxStateRows` of the class", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      yield* execute(url, "create table orders (id int primary key, status text)")
      yield* PgInstaller.watch({ channel: Orders })
      yield* execute(url, "insert into orders values (1, 'new'), (2, 'new')")
      const server = yield* serverOn(url, [Orders], { maxStateRows: 1 })
      const iterator = server.rows(Orders)[Symbol.asyncIterator]()
      const failed = yield* Effect.flip(
        Effect.tryPromise(() => first(iterator, ({ status }) => status === "live"))
      )
      expect(failed).toMatchObject({
        cause: { _tag: "StateTooLarge", limit: "maxStateRows", most: 1 }
      })
    }).pipe(Effect.scoped, Effect.provide(layerInstalledDatabase))
  )

  it.live("rejects what has no rows", () =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      const server = yield* serverOn(url)
      const refused = (table: unknown) => {
        try {
          return server.rows(table as typeof Orders)
        } catch (error) {
          return error
        }
      }
      const Live = Channel.table("live", Order, { key: "id", delivery: "live" })
      expect(refused(Live)).toMatchObject({ _tag: "NotDurable", channel: Live.name })
      const Plain = Channel.make("plain", Order, { delivery: "durable" })
      expect(refused(Plain)).toMatchObject({ _tag: "InvalidOption", option: "table" })
      expect(refused("orders")).toMatchObject({ _tag: "InvalidOption", option: "table" })
      const Routed = Channel.table("routed", Order, { key: "id", by: "status" })
      expect(refused(Routed)).toMatchObject({ _tag: "InvalidOption", option: "table" })
      expect(refused(Routed("a b"))).toMatchObject({ _tag: "InvalidChannelName" })
      const other = yield* serverOn(url, [Channel.systemNotifications])
      expect(() => other.rows(Orders)).toThrow(/reads no outbox/)
    }).pipe(Effect.scoped, Effect.provide(layerInstalledDatabase))
  )
})
