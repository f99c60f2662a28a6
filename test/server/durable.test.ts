import { NodeHttpServer } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Option, Schema, Stream } from "effect"
import type { SqlError } from "effect/sql/SqlError"
import * as HttpRouter from "effect/http/HttpRouter"
import { createServer } from "node:http"
import * as Channel from "../../src/Channel.ts"
import type { RealtimeEvent } from "../../src/RealtimeEvent.ts"
import * as MemoryOutbox from "../../src/server/MemoryOutbox.ts"
import * as MemorySource from "../../src/server/MemorySource.ts"
import * as Realtime from "../../src/server/Realtime.ts"
import * as RealtimeServer from "../../src/server/RealtimeServer.ts"
import * as OutboxReader from "../../src/server/OutboxReader.ts"
import * as PgInstaller from "../../src/server/PgInstaller.ts"
import { allowAll } from "../../src/server/ServerOptions.ts"
import { Address, address } from "../support/app.ts"
import { layerInstalledDatabase } from "../support/database.ts"
import { greet, type Wire } from "../support/wire.ts"

const Order = Schema.Struct({ id: Schema.Int, status: Schema.String })
const Orders = Channel.tableUpdates("orders", Order, { delivery: "durable" })
const Log = Channel.make("log", Schema.Unknown, { delivery: "durable", publish: true })

/** All that durable channels need, over a fresh database; live channels use a source in memory. */
const durable = Realtime.layer().pipe(
  Layer.provideMerge(OutboxReader.layer()),
  Layer.provide(MemorySource.layer),
  Layer.provideMerge(layerInstalledDatabase)
)

const door = Layer.merge(
  HttpRouter.serve(
    RealtimeServer.layer({
      channels: [Orders, Log],
      authorize: allowAll,
      limits: {
        publishRate: { perSecond: 10_000, burst: 10_000 },
        maxMailboxBytes: 64 * 1024
      }
    }),
    { disableListenLog: true, disableLogger: true }
  ),
  address
).pipe(
  Layer.provideMerge(NodeHttpServer.layer(() => createServer(), { port: 0, host: "127.0.0.1" })),
  Layer.provideMerge(durable)
)

const payload = (event: RealtimeEvent<unknown>) =>
  event._tag === "Event" ? event.payload : `gap ${event.reason}`

/** Payloads of `events` frames until there are `count` of them. */
const take = (wire: Wire, count: number) =>
  Effect.gen(function* () {
    const seen: Array<unknown> = []
    let cursor = ""
    while (seen.length < count) {
      const frame = yield* wire.next("events")
      cursor = frame.cursor!
      for (const { data } of frame.events) seen.push(data)
    }
    return { seen, cursor }
  })

describe("A durable channel", () => {
  it.live("a Stream receives published events with id, transaction and cursor", () =>
    Effect.gen(function* () {
      const position = yield* OutboxReader.OutboxReader.use((reader) => reader.position)
      yield* Realtime.publish(Log, { n: 1 })
      yield* Realtime.publish(Log, { n: 2 })
      const events = yield* Realtime.events(Log, { from: position }).pipe(
        Stream.take(2),
        Stream.runCollect
      )
      expect(events.map(payload)).toEqual([{ n: 1 }, { n: 2 }])
      expect(events.every((event) => event._tag === "Event" && event.tx !== undefined)).toBe(true)
    }).pipe(Effect.provide(durable))
  )

  it.live("a durable publish belongs to the caller's transaction", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const position = yield* OutboxReader.OutboxReader.use((reader) => reader.position)
      yield* sql
        .withTransaction(Effect.andThen(Realtime.publish(Log, "rolled back"), Effect.fail("no")))
        .pipe(Effect.ignore)
      yield* sql.withTransaction(Realtime.publish(Log, "committed"))
      const first = yield* Realtime.subscribe(Log).pipe(Stream.runHead, Effect.forkChild)
      const events = yield* Realtime.events(Log, { from: position }).pipe(
        Stream.take(1),
        Stream.runCollect
      )
      expect(events.map(payload)).toEqual(["committed"])
      yield* Fiber.interrupt(first)
    }).pipe(Effect.provide(durable))
  )

  it.live("a key publishes once, and is rejected for another payload", () =>
    Effect.gen(function* () {
      const position = yield* OutboxReader.OutboxReader.use((reader) => reader.position)
      yield* Realtime.publish(Log, "a", { key: "k" })
      yield* Realtime.publish(Log, "a", { key: "k" })
      const error = yield* Effect.flip(Realtime.publish(Log, "b", { key: "k" }))
      expect(error).toMatchObject({ _tag: "PublishRefused", reason: "key" })
      yield* Realtime.publish(Log, "end")
      const events = yield* Realtime.events(Log, { from: position }).pipe(
        Stream.takeUntil((event) => payload(event) === "end"),
        Stream.runCollect
      )
      expect(events.map(payload)).toEqual(["a", "end"])
    }).pipe(Effect.provide(durable))
  )

  it.live("a key of 0 or over 500 bytes or with a NUL is rejected for good", () =>
    Effect.gen(function* () {
      for (const key of ["\u0000", "", "x".repeat(501)]) {
        const error = yield* Effect.flip(Realtime.publish(Log, "a", { key }))
        expect(error).toMatchObject({ _tag: "PublishRefused", channel: "log", reason: "value" })
        expect(error.message).toContain("1-500 bytes")
      }
      yield* Realtime.publish(Log, "a", { key: "x".repeat(500) })
    }).pipe(Effect.provide(durable))
  )

  it.live("a durable payload of 2 MB is delivered", () =>
    Effect.gen(function* () {
      const large = "é".repeat(1_000_000)
      const position = yield* OutboxReader.OutboxReader.use((reader) => reader.position)
      yield* Realtime.publish(Log, large)
      const events = yield* Realtime.events(Log, { from: position }).pipe(
        Stream.take(1),
        Stream.runCollect
      )
      expect(events.map(payload)).toEqual([large])
    }).pipe(Effect.provide(durable))
  )

  it.live("an event that does not match the schema is skipped, and later events arrive", () =>
    Effect.gen(function* () {
      const Strict = Channel.make("log", Schema.Struct({ n: Schema.Int }), { delivery: "durable" })
      const position = yield* OutboxReader.OutboxReader.use((reader) => reader.position)
      for (const value of [{ n: 1 }, "bad", { n: 2 }]) yield* Realtime.publish(Log, value)
      const events = yield* Realtime.events(Strict, { from: position }).pipe(
        Stream.take(3),
        Stream.runCollect
      )
      expect(events.map(payload).filter((one) => one !== "gap invalid")).toEqual([
        { n: 1 },
        { n: 2 }
      ])
    }).pipe(Effect.provide(durable))
  )

  it.effect("publish and events fail with NoOutbox on a node without an outbox", () =>
    Effect.gen(function* () {
      const published = yield* Effect.flip(Realtime.publish(Log, 1))
      const consumed = yield* Realtime.events(Log).pipe(Stream.runDrain, Effect.flip)
      expect([published._tag, consumed._tag]).toEqual(["NoOutbox", "NoOutbox"])
      expect(consumed.message).toContain("OutboxReader.layer()")
    }).pipe(
      // An outbox merged beside does not help.
      Effect.provide([
        Realtime.layer().pipe(Layer.provide(MemorySource.layer)),
        MemoryOutbox.layer()
      ])
    )
  )

  it.live("batches have the position after them, from which a Stream resumes", () =>
    Effect.gen(function* () {
      const position = yield* OutboxReader.OutboxReader.use((reader) => reader.position)
      for (const n of [1, 2, 3]) yield* Realtime.publish(Log, n)
      const seen: Array<unknown> = []
      let cursor = position
      // One batch at a time, each from where the one before ended.
      while (seen.length < 3) {
        const next = yield* Realtime.batches(Log, { from: cursor }).pipe(Stream.runHead)
        if (Option.isNone(next)) break
        cursor = next.value.cursor
        seen.push(...next.value.events.map(payload))
      }
      expect(seen).toEqual([1, 2, 3])
    }).pipe(Effect.provide(durable))
  )

  it.live("workers of one consumer handle each event once, although one of them failed", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      yield* sql`create table done (n int primary key)`
      const work = (fails: boolean) =>
        Realtime.consume(Log, {
          name: "worker",
          start: "oldest",
          onEvents: (events) =>
            Effect.forEach(
              events,
              (event): Effect.Effect<unknown, string | SqlError> =>
                fails && payload(event) === 30
                  ? Effect.fail("tripped")
                  : sql`insert into done values (${payload(event) as number})`,
              { discard: true }
            )
        })
      for (let n = 1; n <= 50; n++) yield* Realtime.publish(Log, n)
      expect(yield* Effect.flip(work(true))).toBe("tripped")
      yield* Effect.forkScoped(work(false))
      yield* Effect.forkScoped(work(false))
      for (let n = 51; n <= 100; n++) yield* Realtime.publish(Log, n)
      // The primary key rejects a second insert; every number must be there.
      yield* Effect.repeat(sql<{ n: number }>`select count(*)::int as n from done`, {
        until: (rows) => rows[0]?.n === 100
      })
    }).pipe(Effect.scoped, Effect.provide(durable))
  )

  it.live("a snapshot and the events after it hold each of 200 rows exactly once", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      yield* sql`create table orders (id int primary key, status text not null)`
      yield* PgInstaller.watch({ channel: Orders })
      const write = (id: number) => sql`insert into orders values (${id}, 'new')`
      const total = 200
      const writers = yield* Effect.forEach(
        Array.from({ length: total }, (_, id) => id),
        write,
        { concurrency: 3 }
      ).pipe(Effect.forkChild)
      const { cursor, value } = yield* Realtime.snapshot(sql<{ id: number }>`select id from orders`)
      const known = value.map(({ id }) => id)
      const later = yield* Realtime.events(Orders, { from: cursor }).pipe(
        Stream.filter((event) => event._tag === "Event"),
        Stream.map((event) => event.payload.data.id),
        Stream.take(total - known.length),
        Stream.runCollect
      )
      yield* Fiber.join(writers)
      expect([...known, ...later].toSorted((a, b) => a - b)).toEqual(
        Array.from({ length: total }, (_, id) => id)
      )
    }).pipe(Effect.scoped, Effect.provide(durable))
  )

  describe("A durable channel over WebSocket", () => {
    it.live("a subscriber receives the changes of a watched table", () =>
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        yield* sql`create table orders (id int primary key, status text not null)`
        yield* PgInstaller.watch({ channel: Orders })
        const wire = yield* greet((yield* Address).ws)
        wire.send({ type: "subscribe", id: 1, channel: "table_updates_orders" })
        expect((yield* wire.next("subscribed")).state).toBe("fresh")
        yield* sql`insert into orders values (1, 'new')`
        yield* sql`update orders set status = 'shipped' where id = 1`
        yield* sql`delete from orders where id = 1`
        const { seen } = yield* take(wire, 3)
        expect(seen).toMatchObject([
          { operation: "INSERT", data: { id: 1, status: "new" } },
          { operation: "UPDATE", data: { id: 1, status: "shipped" } },
          { operation: "DELETE", data: { id: 1, status: "shipped" } }
        ])
      }).pipe(Effect.scoped, Effect.provide(door))
    )

    it.live("a client that missed 600 events resumes and receives each of them once", () =>
      Effect.gen(function* () {
        const { ws } = yield* Address
        const first = yield* greet(ws)
        first.send({ type: "subscribe", id: 1, channel: "log" })
        yield* first.next("subscribed")
        for (const n of [1, 2, 3]) yield* Realtime.publish(Log, n)
        const { cursor } = yield* take(first, 3)
        first.socket.terminate()
        const missed = Array.from({ length: 600 }, (_, index) => index + 4)
        yield* Effect.forEach(missed, (n) => Realtime.publish(Log, n))
        const wire = yield* greet(ws)
        wire.send({ type: "subscribe", id: 1, channel: "log", cursor })
        expect(yield* wire.next("subscribed")).toMatchObject({ state: "recovered", cursor })
        yield* Realtime.publish(Log, "live")
        const { seen } = yield* take(wire, 601)
        expect(seen).toEqual([...missed, "live"])
      }).pipe(Effect.scoped, Effect.provide(door))
    )

    it.live("a client that reconnects while others publish receives each event once", () =>
      Effect.gen(function* () {
        const { ws } = yield* Address
        const total = 400
        const start = yield* OutboxReader.OutboxReader.use((reader) => reader.position)
        const writer = yield* Effect.forEach(
          Array.from({ length: total }, (_, n) => n),
          (n) => Realtime.publish(Log, n)
        ).pipe(Effect.forkChild)
        let cursor = start
        const seen: Array<unknown> = []
        // Disconnects and resumes from its cursor until it has all events.
        while (seen.length < total) {
          yield* Effect.scoped(
            Effect.gen(function* () {
              const wire = yield* greet(ws)
              wire.send({ type: "subscribe", id: 1, channel: "log", cursor })
              expect((yield* wire.next("subscribed")).state).toBe("recovered")
              const some = yield* take(wire, Math.min(23, total - seen.length))
              seen.push(...some.seen)
              cursor = some.cursor
            })
          )
        }
        yield* Fiber.join(writer)
        expect(seen).toEqual(Array.from({ length: total }, (_, n) => n))
      }).pipe(Effect.scoped, Effect.provide(door))
    )

    it.live.each([
      ["another identity", "2.AAAAAAAA.AAABAA"],
      ["an invalid text", "'; drop schema realtime; --"],
      ["a live channel", "AbCdEfGh:3"]
    ])("a subscriber with a cursor of %s gets the state reset", ([, cursor]) =>
      Effect.gen(function* () {
        const wire = yield* greet((yield* Address).ws)
        wire.send({ type: "subscribe", id: 1, channel: "log", cursor })
        expect((yield* wire.next("subscribed")).state).toBe("reset")
        yield* Realtime.publish(Log, "next")
        expect((yield* take(wire, 1)).seen).toEqual(["next"])
      }).pipe(Effect.scoped, Effect.provide(door))
    )

    it.live("a socket that was too slow catches up without a gap", () =>
      Effect.gen(function* () {
        const wire = yield* greet((yield* Address).ws)
        wire.send({ type: "subscribe", id: 1, channel: "log" })
        yield* wire.next("subscribed")
        wire.socket.pause()
        const text = "x".repeat(100_000)
        const total = 80
        // Far more than its mailbox and the kernel's buffers hold.
        for (let n = 0; n < total; n++) yield* Realtime.publish(Log, { n, text })
        wire.socket.resume()
        const { seen } = yield* take(wire, total)
        expect(seen.map((data) => (data as { n: number }).n)).toEqual(
          Array.from({ length: total }, (_, n) => n)
        )
        expect(wire.frames.some(({ type }) => type === "gap")).toBe(false)
      }).pipe(Effect.scoped, Effect.provide(door))
    )

    it.live("a key that PostgreSQL cannot store is rejected, and such a payload is stored", () =>
      Effect.gen(function* () {
        const wire = yield* greet((yield* Address).ws)
        wire.send({ type: "subscribe", id: 0, channel: "log" })
        yield* wire.next("subscribed")
        const publish = (id: number, key: string, data: unknown) =>
          wire.send({ type: "publish", id, channel: "log", key, data })
        publish(1, "\u0000", 1)
        publish(2, "\ud800", 2)
        for (const id of [1, 2]) {
          expect(yield* wire.next("error")).toMatchObject({ id, code: "frame/malformed" })
        }
        // Escapes in JSON text, which PostgreSQL does not decode.
        const odd = ["a\u0000b", "\ud800", { "\u0000\udfff": ["\u0000", "\u{1f600}"] }]
        for (const [n, data] of odd.entries()) publish(3 + n, `k${n}`, data)
        expect((yield* take(wire, odd.length)).seen).toEqual(odd)
      }).pipe(Effect.provide(door))
    )

    it.live("a client's key publishes once, and is stored with its message", () =>
      Effect.gen(function* () {
        const { ws } = yield* Address
        const wire = yield* greet(ws)
        wire.send({ type: "subscribe", id: 1, channel: "log" })
        yield* wire.next("subscribed")
        for (const id of [2, 3]) {
          wire.send({ type: "publish", id, channel: "log", key: "same", data: "once" })
          yield* wire.next("published")
        }
        wire.send({ type: "publish", id: 4, channel: "log", key: "same", data: "other" })
        expect((yield* wire.next("error")).code).toBe("publish/invalid")
        yield* Realtime.publish(Log, "end")
        expect((yield* take(wire, 2)).seen).toEqual(["once", "end"])
        const sql = yield* PgClient.PgClient
        const stored =
          yield* sql`select count(*)::int as n from realtime.messages where key is not null`
        expect(stored).toEqual([{ n: 1 }])
      }).pipe(Effect.scoped, Effect.provide(door))
    )
  })
})
