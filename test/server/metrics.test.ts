/** What a scrape shows of a known load, on real sockets and a real database. */
import { NodeHttpServer } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Layer, Metric, Schema } from "effect"
import { HttpRouter } from "effect/http"
import { PrometheusMetrics } from "effect/observability"
import { createServer } from "node:http"
import * as Channel from "../../src/Channel.ts"
import * as PgNotificationSource from "../../src/server/PgNotificationSource.ts"
import * as Realtime from "../../src/server/Realtime.ts"
import * as RealtimeServer from "../../src/server/RealtimeServer.ts"
import { NotificationSource, SourceError } from "../../src/server/NotificationSource.ts"
import { layerDoor, refusals, settle, visit } from "../support/sessions.ts"
import { Address, address } from "../support/app.ts"
import { greet, type Wire } from "../support/wire.ts"
import { layerReader, publish, session } from "./support/durable.ts"

const Live = Channel.make("prices", Schema.Finite)
const Log = Channel.make("log", Schema.Finite, { delivery: "durable" })
const Pointers = Channel.make("pointers", Schema.Finite, { delivery: "volatile" })

/** Registers metrics apart from those of other tests. */
const apart = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.suspend(() => Effect.provideService(effect, Metric.MetricRegistry, new Map()))

/** The series of a scrape, by their names with labels. */
const scrape = Effect.map(PrometheusMetrics.format(), (text) => {
  const series: Record<string, number> = {}
  for (const line of text.split("\n")) {
    const found = /^effect_realtime_(\S+) (\S+)$/.exec(line)
    if (found !== null) series[found[1]!] = Number(found[2])
  }
  return series
})

/** A hundredth of 100,000 names, 10,000 identities, 1,000 unknown channels and errors by default. */
const many = process.env["REALTIME_TEST_LONG"] === "1" ? 100 : 1

/** Scrapes until a condition holds. */
const untilScraped = (condition: (series: Record<string, number>) => boolean) =>
  Effect.repeat(Effect.delay(scrape, 10), { until: condition })

/** The bytes of a message of a server, with its WebSocket frame. */
const framed = (text: string): number => {
  const bytes = Buffer.byteLength(text)
  return bytes + (bytes < 126 ? 2 : bytes < 65_536 ? 4 : 10)
}

const app = HttpRouter.serve(
  RealtimeServer.layer({
    channels: [Live, Log, Pointers],
    authorize: RealtimeServer.allowAll
  }),
  { disableListenLog: true, disableLogger: true }
).pipe(
  Layer.provideMerge(address),
  Layer.provideMerge(NodeHttpServer.layer(createServer, { port: 0, host: "127.0.0.1" })),
  Layer.provideMerge(Realtime.layer()),
  Layer.provideMerge(
    PgNotificationSource.layer({ backoff: { initial: 10, cap: 100, resetAfter: 30_000 } })
  ),
  Layer.provideMerge(layerReader({ retention: "20 seconds" }))
)

/** Sends a frame and counts its bytes. */
const counting = (wire: Wire) => {
  let bytes = Buffer.byteLength(JSON.stringify({ type: "hello", version: 1 }))
  return {
    bytes: () => bytes,
    send: (frame: object) => {
      const text = JSON.stringify(frame)
      bytes += Buffer.byteLength(text)
      wire.send(text)
    }
  }
}

/** Takes events of a channel until so many arrived. */
const receive = (wire: Wire, count: number) =>
  Effect.gen(function* () {
    let found = 0
    while (found < count) found += (yield* wire.next("events")).events.length
  })

describe("the metrics of a node", () => {
  it.live("show a known load of sessions, channels, events, bytes, replays, gaps and resets", () =>
    apart(
      Effect.gen(function* () {
        const { ws } = yield* Address
        const first = yield* greet(ws)
        const second = yield* greet(ws)
        const [one, two] = [counting(first), counting(second)]
        for (const [id, channel] of ["prices", "log", "pointers"].entries()) {
          one.send({ type: "subscribe", id, channel })
          yield* first.next("subscribed")
        }
        two.send({ type: "subscribe", id: 1, channel: "log" })
        const { cursor } = yield* second.next("subscribed")
        for (let n = 0; n < 3; n++) yield* Realtime.publish(Live, n)
        for (let n = 0; n < 5; n++) yield* Realtime.publish(Log, n)
        for (let n = 0; n < 2; n++) yield* Realtime.publish(Pointers, n)
        yield* receive(first, 10)
        yield* receive(second, 5)
        const loaded = yield* scrape
        expect(loaded).toMatchObject({
          sessions: 2,
          subscriptions: 4,
          'channels{delivery="live"}': 1,
          'channels{delivery="durable"}': 1,
          'channels{delivery="volatile"}': 1,
          'channels{delivery="presence"}': 0,
          'events_in_total{delivery="live"}': 3,
          'events_in_total{delivery="durable"}': 5,
          'events_in_total{delivery="volatile"}': 2,
          events_out_total: 3 + 5 + 5 + 2,
          batch_events_sum: 10,
          delivery_seconds_count: 5,
          link_up: 1,
          reader_up: 1,
          mailbox_bytes: 0,
          replay_seconds_count: 0
        })
        expect(loaded["bytes_in_total"]).toBe(one.bytes() + two.bytes())
        expect(loaded["delivery_seconds_sum"]).toBeGreaterThan(0)
        expect(loaded["delivery_seconds_sum"]).toBeLessThan(60)
        expect(loaded["reader_lag_seconds"]).toBeLessThan(30)

        // A replay, and cursors that cannot resume.
        two.send({ type: "unsubscribe", id: 2, channel: "log" })
        yield* second.next("unsubscribed")
        two.send({ type: "subscribe", id: 3, channel: "log", cursor })
        yield* receive(second, 5)
        for (const [id, channel] of ["log", "prices"].entries()) {
          two.send({ type: "unsubscribe", id: 10 + id, channel })
          yield* second.next("unsubscribed")
          two.send({ type: "subscribe", id: 20 + id, channel, cursor: "none" })
          expect(yield* second.next("subscribed", "error")).toMatchObject({ type: "subscribed" })
        }
        // Two sessions receive a gap for a message that does not match.
        yield* publish("log", "no number")
        yield* first.next("gap")
        yield* second.next("gap")
        const seen = [...first.messages, ...second.messages]
        expect(yield* scrape).toMatchObject({
          subscriptions: 5,
          replay_events_total: 5,
          replay_seconds_count: 1,
          'resets_total{reason="malformed"}': 1,
          'resets_total{reason="memory"}': 1,
          'resets_total{reason="retention"}': 0,
          'gaps_total{reason="invalid"}': 2,
          'gaps_total{reason="source"}': 0,
          'refused_total{reason="reset"}': 2,
          bytes_out_total: seen.reduce((sum, text) => sum + framed(text), 0)
        })

        // The sessions of the database are lost and return.
        yield* PgClient.PgClient.use(
          (sql) => sql`select pg_terminate_backend(pid) from pg_stat_activity
            where datname = current_database() and application_name like 'effect-realtime%'`
        )
        const back = yield* untilScraped(
          (series) =>
            series['reconnects_total{session="link"}'] === 1 &&
            series['reconnects_total{session="reader"}'] === 1
        )
        expect(back).toMatchObject({ link_up: 1, reader_up: 1 })
        yield* first.next("gap")
        yield* second.next("gap")
        expect((yield* scrape)['gaps_total{reason="source"}']).toBe(2)
        first.socket.close()
        yield* untilScraped(({ sessions, subscriptions }) => sessions === 1 && subscriptions === 2)
      }).pipe(Effect.scoped, Effect.provide(app))
    )
  )

  it.live("show the outbox, the oldest transaction and a consumer that lags", () =>
    apart(
      Effect.gen(function* () {
        for (let n = 0; n < 7; n++) yield* publish("log", n)
        const stored = yield* untilScraped(({ outbox_rows }) => outbox_rows === 7)
        expect(stored["outbox_bytes"]).toBeGreaterThan(8192)
        expect(stored["oldest_transaction_seconds"]).toBe(0)
        expect(stored["notification_queue_ratio"]).toBe(0)

        const db = yield* session
        yield* db.query("begin")
        yield* db.query("select pg_current_xact_id()::text")
        yield* untilScraped((series) => series["oldest_transaction_seconds"]! > 0.05)
        yield* db.query("commit")
        yield* untilScraped((series) => series["oldest_transaction_seconds"] === 0)

        const held = yield* Deferred.make<void>()
        const entered = yield* Deferred.make<void>()
        const fiber = yield* Realtime.consume(Log, {
          name: "worker",
          start: "oldest",
          onEvents: () => Effect.andThen(Deferred.succeed(entered, undefined), Deferred.await(held))
        }).pipe(Effect.forkChild)
        yield* Deferred.await(entered)
        yield* untilScraped((series) => series["consumer_lag_seconds"]! > 0.05)
        yield* Deferred.succeed(held, undefined)
        yield* untilScraped((series) => series["consumer_lag_seconds"] === 0)
        yield* Fiber.interrupt(fiber)
      }).pipe(Effect.scoped, Effect.provide(app))
    )
  )
})

describe("the series of a node", () => {
  const Rooms = Channel.family("room_", Schema.String, Schema.String, { publish: true })

  /** Every publish fails, each with another text. */
  let failures = 0
  const failing = Layer.effect(
    NotificationSource,
    Effect.map(NotificationSource, (source) => ({
      ...source,
      notify: (channel: string) => {
        const cause = new Error(`marked error ${failures++} at 10.0.0.${failures % 256}`)
        return Effect.fail(new SourceError({ operation: "notify", channel, cause }))
      }
    }))
  )
  const door = layerDoor(
    {
      channels: [Rooms],
      authorize: RealtimeServer.allowAll,
      authenticate: ({ token = "" }) => Effect.succeed({ identity: token }),
      limits: {
        frameRate: { perSecond: 1e6, burst: 1e6 },
        subscribeRate: { perSecond: 1e6, burst: 1e6 },
        publishRate: { perSecond: 1e6, burst: 1e6 },
        channelOpenRate: { perSecond: 1e6, burst: 1e6 },
        maxSessionsPerAddress: 1e6
      }
    },
    { linger: 0 },
    failing
  )

  it.effect(
    "are the same after many names, identities, unknown channels and errors",
    () =>
      apart(
        Effect.gen(function* () {
          const visitor = yield* visit({ token: "marked-first" })
          const before = yield* scrape
          const errors = 10 * many
          let id = 0
          const names = 1000 * many
          for (let n = 0; n < names; n++) {
            visitor.send({ type: "subscribe", id: ++id, channel: `room_marked${n}` })
            visitor.send({ type: "unsubscribe", id: ++id, channel: `room_marked${n}` })
            if (n % 40 === 39) yield* settle
          }
          expect(visitor.of("subscribed")).toHaveLength(names)
          const identities = 100 * many
          for (let n = 0; n < identities; n += 50) {
            yield* Effect.gen(function* () {
              for (let at = n; at < n + 50; at++) {
                const one = yield* visit({ hello: false })
                one.send({ type: "hello", version: 1, token: `marked-identity-${at}` })
              }
              yield* settle
            }).pipe(Effect.scoped)
          }
          for (let n = 0; n < errors; n++) {
            visitor.send({ type: "subscribe", id: ++id, channel: `marked_unknown_${n}` })
            const key = `marked-${n}`
            visitor.send({ type: "publish", id: ++id, channel: "room_a", key, data: "marked" })
            if (n % 40 === 39) yield* settle
          }
          expect(yield* refusals("channel/unknown")).toBe(errors)
          expect(failures).toBe(errors)
          const text = yield* PrometheusMetrics.format()
          expect(Object.keys(yield* scrape)).toEqual(Object.keys(before))
          expect(text.length).toBeLessThan(200_000)
          expect(text).not.toContain("marked")
        }).pipe(Effect.scoped, Effect.provide(door))
      ),
    many === 1 ? 30_000 : 900_000
  )
})
