/** The spans of a node, and the trace of a publish up to the consumer that handles it. */
import { NodeHttpServer } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Option, Schema, Tracer } from "effect"
import { HttpRouter } from "effect/http"
import { TestClock } from "effect/testing"
import * as Fs from "node:fs"
import { createServer } from "node:http"
import * as Channel from "../../src/Channel.ts"
import { NotificationSource } from "../../src/server/NotificationSource.ts"
import * as PgInstaller from "../../src/server/PgInstaller.ts"
import * as PgNodeBus from "../../src/server/PgNodeBus.ts"
import * as PgNotificationSource from "../../src/server/PgNotificationSource.ts"
import * as Realtime from "../../src/server/Realtime.ts"
import * as RealtimeServer from "../../src/server/RealtimeServer.ts"
import { Address, address } from "../support/app.ts"
import { execute, layerInstalledDatabase, TestDatabase } from "../support/database.ts"
import { layerDoor, settle, visit } from "../support/sessions.ts"
import { until } from "../support/until.ts"
import { greet } from "../support/wire.ts"
import { layerReader, layerReaderOnly, publish, session } from "./support/durable.ts"
import { long } from "./support/random.ts"

const Log = Channel.make("log", Schema.Finite, { delivery: "durable", publish: true })
const Prices = Channel.make("prices", Schema.Finite)

/** The guide whose table names every span. */
const guide = Fs.readFileSync(
  new URL("../../examples/observability/README.md", import.meta.url),
  "utf8"
)

/** Keeps the spans of this library. */
class Spans {
  readonly all: Array<Tracer.NativeSpan> = []
  /** Those of others too. */
  readonly every: Array<Tracer.NativeSpan> = []
  readonly layer = Layer.succeed(
    Tracer.Tracer,
    Tracer.make({
      span: (options) => {
        const span = new Tracer.NativeSpan(options)
        this.every.push(span)
        if (options.name.startsWith("realtime.")) this.all.push(span)
        return span
      }
    })
  )

  named(name: string): ReadonlyArray<Tracer.NativeSpan> {
    return this.all.filter((span) => span.name === `realtime.${name}`)
  }

  get open(): ReadonlyArray<string> {
    return this.all.filter(({ status }) => status._tag === "Started").map(({ name }) => name)
  }
}

const app = HttpRouter.serve(
  RealtimeServer.layer({ channels: [Log, Prices], authorize: () => Effect.succeed(true) }),
  { disableListenLog: true, disableLogger: true }
).pipe(
  Layer.provideMerge(address),
  Layer.provideMerge(NodeHttpServer.layer(createServer, { port: 0, host: "127.0.0.1" })),
  Layer.provideMerge(Realtime.layer()),
  Layer.provideMerge(
    PgNotificationSource.layer({ backoff: { initial: 10, cap: 100, resetAfter: 30_000 } })
  ),
  Layer.provideMerge(layerReader())
)

const ids = ({ spanId, traceId }: Tracer.AnySpan) => ({ spanId, traceId })
const linked = (span: Tracer.Span) => span.links.map(({ span }) => ids(span))

/** Handles so many events, and gives back the spans that the handler ran in. */
const consumed = (count: number) =>
  Effect.gen(function* () {
    const seen: Array<Tracer.AnySpan> = []
    let events = 0
    const fiber = yield* Realtime.consume(Log, {
      name: "worker",
      start: "oldest",
      onEvents: (batch) =>
        Effect.map(Effect.currentParentSpan, (span) => {
          seen.push(span)
          events += batch.length
        }).pipe(Effect.orDie)
    }).pipe(Effect.forkChild)
    yield* until(() => events >= count)
    yield* Fiber.interrupt(fiber)
    return seen
  })

describe("the spans of a node", () => {
  it.live("link what a consumer handles to the publishes of programs and of clients", () => {
    const spans = new Spans()
    return Effect.gen(function* () {
      const request = yield* Effect.makeSpan("request")
      yield* Effect.withParentSpan(Realtime.publish(Log, 1), request)
      // One transaction, and a key.
      yield* PgClient.PgClient.use((sql) =>
        sql.withTransaction(Realtime.publish(Log, 2, { key: "once" }))
      )
      yield* publish("log", 3)
      const { ws } = yield* Address
      const wire = yield* greet(ws)
      const trace = `00-${"a1".repeat(16)}-${"b2".repeat(8)}-01`
      const unsampled = `00-${"c3".repeat(16)}-${"d4".repeat(8)}-00`
      for (const [id, one] of [trace, unsampled, "nonsense"].entries()) {
        wire.send({ type: "publish", id, channel: "log", key: `k${id}`, data: 4 + id, trace: one })
        expect(yield* wire.next("published", "error")).toMatchObject({ type: "published", id })
      }
      const handlers = yield* consumed(6)
      const published = spans.named("publish")
      expect(published).toHaveLength(5)
      expect(Option.map(published[0]!.parent, ids)).toEqual(Option.some(ids(request)))
      expect(linked(published[2]!)).toEqual([{ traceId: "a1".repeat(16), spanId: "b2".repeat(8) }])
      expect(published[3]).toMatchObject({ sampled: false })
      expect(linked(published[4]!)).toEqual([])

      const batches = spans.named("consume")
      expect(handlers.length).toBeGreaterThan(0)
      // What the handler does stands below the span of its batch.
      const traces = new Set(batches.map(({ traceId }) => traceId))
      expect(handlers.every(({ traceId }) => traces.has(traceId))).toBe(true)
      for (const { parent } of batches) expect(parent).toEqual(Option.none())
      expect(batches.flatMap(linked)).toEqual(published.map(ids))
      expect(batches.flatMap(({ links }) => links.map(({ span }) => span.sampled))).toEqual([
        true,
        true,
        true,
        false,
        true
      ])
      expect(
        batches.reduce((sum, { attributes }) => sum + Number(attributes.get("realtime.events")), 0)
      ).toBe(6)
    }).pipe(Effect.scoped, Effect.provide(app), Effect.provide(spans.layer))
  })

  it.live("end with each subscribe, replay and connection, and are none per event", () => {
    const spans = new Spans()
    return Effect.gen(function* () {
      const { ws } = yield* Address
      const wire = yield* greet(ws)
      const subscribe = (id: number, channel: string, cursor?: string) => {
        wire.send({ type: "subscribe", id, channel, cursor })
        return wire.next("subscribed")
      }
      let { cursor } = yield* subscribe(1, "log")
      yield* subscribe(2, "prices")
      const before = spans.all.length
      const publishSome = PgClient.PgClient.use(
        (sql) => sql`select realtime.publish('log', n::text) from generate_series(1, 3000) n`
      )
      for (let round = 0; round < (long ? 50 : 1); round++) {
        yield* publishSome
        for (let received = 0; received < 3000;) {
          const frame = yield* wire.next("events")
          received += frame.events.length
          cursor = frame.cursor
        }
      }
      expect(spans.all.slice(before).map(({ name }) => name)).toEqual([])
      expect(spans.open).toEqual([])
      wire.send({ type: "unsubscribe", id: 3, channel: "log" })
      yield* wire.next("unsubscribed")
      yield* publishSome
      yield* subscribe(4, "log", cursor)
      yield* until(() => spans.named("replay").length === 1 && spans.open.length === 0)
      expect(spans.named("subscribe")).toHaveLength(3)
      expect(spans.named("authorize").length).toBeGreaterThan(0)

      yield* PgClient.PgClient.use(
        (sql) => sql`select pg_terminate_backend(pid) from pg_stat_activity
          where datname = current_database() and application_name like 'effect-realtime%'`
      )
      yield* until(
        () =>
          spans.named("link.lost").length === 1 &&
          spans.named("reader.lost").length === 1 &&
          spans.named("link.connect").length > 1 &&
          spans.named("reader.connect").length > 1 &&
          spans.open.length === 0
      )
      wire.socket.close()
      yield* wire.closed
      expect(spans.open).toEqual([])
    }).pipe(Effect.scoped, Effect.provide(app), Effect.provide(spans.layer))
  })

  it.effect(
    "are none of a socket, however long it is open and however many heartbeats and events it has",
    () => {
      const spans = new Spans()
      const door = layerDoor({ channels: [Prices], authorize: () => Effect.succeed(true) })
      return Effect.gen(function* () {
        const visitor = yield* visit()
        visitor.send({ type: "subscribe", id: 1, channel: "prices" })
        yield* settle
        expect(visitor.of("subscribed")).toHaveLength(1)
        const begun = spans.all.map(({ name }) => name)
        expect(begun).toEqual(["realtime.authorize", "realtime.subscribe"])
        const source = yield* NotificationSource
        const hours = long ? 24 : 3
        /** A minute has heartbeats and a few events, in 24 h more than 1,000,000. */
        const events = long ? 700 : 2
        let received = 0
        let pings = 0
        for (let minute = 0; minute < 60 * hours; minute++) {
          for (let n = 0; n < events; n++) yield* source.notify("prices", String(n))
          // The server asks after 25 s, and waits 10 s for the answer.
          for (let part = 0; part < 2; part++) {
            yield* TestClock.adjust("30 seconds")
            visitor.send({ type: "pong" })
          }
          received += visitor.of("events").reduce((sum, frame) => sum + frame.events.length, 0)
          pings += visitor.of("ping").length
          visitor.frames.length = 0
        }
        expect(received).toBe(60 * hours * events)
        expect(pings).toBeGreaterThan(60 * hours)
        expect(visitor.closeCode).toBeUndefined()
        expect(spans.all.map(({ name }) => name)).toEqual(begun)
        expect(spans.open).toEqual([])
      }).pipe(Effect.scoped, Effect.provide(door), Effect.provide(spans.layer))
    },
    long ? 300_000 : 30_000
  )

  it.live(
    "are none of the work that a node does by itself, and its statements begin no trace",
    () => {
      const spans = new Spans()
      const Orders = Channel.table("orders", Schema.Struct({ id: Schema.Int }), { key: "id" })
      const idle = HttpRouter.serve(
        RealtimeServer.layer({
          channels: [Log, Prices, Orders],
          authorize: RealtimeServer.allowAll,
          control: true
        }),
        { disableListenLog: true, disableLogger: true }
      ).pipe(
        Layer.provideMerge(address),
        Layer.provideMerge(NodeHttpServer.layer(createServer, { port: 0, host: "127.0.0.1" })),
        Layer.provideMerge(Realtime.layer()),
        Layer.provideMerge(PgNodeBus.layer()),
        Layer.provideMerge(PgNotificationSource.layer()),
        Layer.provideMerge(layerReaderOnly())
      )
      /** What the guide names, and the requests of the HTTP server. */
      const named = (name: string) =>
        name === "GET" || guide.includes(`| \`${name}\``) || guide.includes(`, \`${name}\` |`)
      return Effect.gen(function* () {
        const { url } = yield* TestDatabase
        const write = execute(url, "select realtime.publish('log', '1'::text)")
        /** The node deletes all messages but the last one, a second after they were written. */
        const pruned = Effect.gen(function* () {
          yield* write
          yield* write
          const db = yield* session
          yield* Effect.repeat(
            Effect.delay(db.query("select id::text from realtime.messages"), 20),
            {
              until: ({ rows }) => rows.length === 1
            }
          )
        })
        yield* Effect.gen(function* () {
          const wire = yield* greet((yield* Address).ws)
          for (const [id, channel] of ["log", "prices", Orders.name].entries()) {
            wire.send({ type: "subscribe", id, channel })
            yield* wire.next("subscribed")
          }
          let handled = 0
          yield* Realtime.consume(Log, {
            name: "worker",
            start: "oldest",
            onEvents: (events) => Effect.sync(() => void (handled += events.length))
          }).pipe(Effect.forkScoped)
          yield* write
          yield* until(() => handled === 1)
          yield* pruned
          yield* until(() => handled === 3)
          expect(spans.named("consume").length).toBeGreaterThan(0)
          const roots = spans.every.filter(({ parent }) => Option.isNone(parent))
          expect(roots.map(({ name }) => name).filter((name) => !named(name))).toEqual([])
          const ours = spans.all.map(({ name }) => name)
          expect(ours.filter((name) => !named(name))).toEqual([])
        }).pipe(Effect.scoped, Effect.provide(idle), Effect.provide(spans.layer))
      }).pipe(
        Effect.scoped,
        Effect.provide(
          PgInstaller.layer({ retention: "1 second", watch: [Orders] }).pipe(
            Layer.provideMerge(
              Layer.effectDiscard(
                Effect.flatMap(TestDatabase, ({ url }) =>
                  execute(url, "create table orders (id int primary key)")
                )
              )
            ),
            Layer.provideMerge(layerInstalledDatabase)
          )
        )
      )
    }
  )

  it.live("are none, and no context travels, without a tracer of the application", () =>
    Effect.gen(function* () {
      yield* Effect.withSpan(Realtime.publish(Log, 1, { key: "k" }), "request")
      const rows = yield* PgClient.PgClient.use((sql) => sql`select match from realtime.messages`)
      expect(rows).toEqual([{ match: null }])
    }).pipe(Effect.scoped, Effect.provide(app))
  )
})
