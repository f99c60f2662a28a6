/** What a scrape shows of a known load, on real sockets and a real database. */
import { NodeHttpServer } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Context, Deferred, Effect, Exit, Fiber, Layer, Metric, Schema, Scope } from "effect"
import { HttpRouter } from "effect/http"
import { TestClock } from "effect/testing"
import * as Fs from "node:fs"
import { createServer } from "node:http"
import * as Path from "node:path"
import * as Channel from "../../src/Channel.ts"
import * as PgNotificationSource from "../../src/server/PgNotificationSource.ts"
import * as Realtime from "../../src/server/Realtime.ts"
import * as RealtimeServer from "../../src/server/RealtimeServer.ts"
import { FeedCarrier } from "../../src/server/FeedCarrier.ts"
import { carrierOf, makeNetwork, networkKeys } from "../../src/server/internal/bus/memoryCarrier.ts"
import { parseTick } from "../../src/server/internal/feed/feedFrames.ts"
import * as metrics from "../../src/server/internal/metrics.ts"
import { OutboxReader } from "../../src/server/OutboxReader.ts"
import { Address, address, layer as layerApp } from "../support/app.ts"
import { feedNetwork } from "../support/feedNetwork.ts"
import { layerBus, Network } from "../support/nodeBus.ts"
import { until } from "../support/until.ts"
import { greet, type Wire } from "../support/wire.ts"
import { node as busNode, type World } from "./support/busNodes.ts"
import {
  layerInstalled,
  layerReader,
  layerReaderOnly,
  numbersOf,
  publish,
  session
} from "./support/durable.ts"
import {
  apart,
  held,
  holds,
  holdsBetween,
  scrape,
  untilHolds,
  untilScraped
} from "./support/series.ts"

const Live = Channel.make("prices", Schema.Finite)
const Log = Channel.make("log", Schema.Finite, { delivery: "durable" })
const Other = Channel.make("other", Schema.Finite, { delivery: "durable" })
const Pointers = Channel.make("pointers", Schema.Finite, { delivery: "volatile" })
const Texts = Channel.make("texts", Schema.String)
const Room = Channel.presence("room", Schema.Struct({ at: Schema.String }))
const Moves = Channel.make("moves", Schema.Struct({ user: Schema.String }), {
  delivery: "volatile",
  latestBy: "user"
})

/** The most bytes that wait for a socket of `slow`. */
const maxMailboxBytes = 4 * 1024 * 1024
const slow = layerApp({
  channels: [Texts],
  authorize: RealtimeServer.allowAll,
  limits: { maxMailboxBytes }
})

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

/** Consumers and what they need. */
const layerDurable = Realtime.layer().pipe(
  Layer.provideMerge(PgNotificationSource.layer()),
  Layer.provideMerge(layerReader())
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
        holds(loaded, {
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
        holds(loaded, { bytes_in_total: one.bytes() + two.bytes() })
        expect(loaded["delivery_seconds_sum"]).toBeGreaterThan(0)
        expect(loaded["delivery_seconds_sum"]).toBeLessThan(60)

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
        holds(yield* scrape, {
          subscriptions: 5,
          replay_events_total: 5,
          replay_seconds_count: 1,
          'resets_total{reason="malformed"}': 1,
          'resets_total{reason="memory"}': 1,
          'resets_total{reason="retention"}': 0,
          'gaps_total{reason="invalid"}': 2,
          'gaps_total{reason="source"}': 0,
          'refused_total{reason="reset"}': 2,
          notifications_invalid_total: 1,
          bytes_out_total: seen.reduce((sum, text) => sum + framed(text), 0)
        })

        // The sessions of the database are lost and return.
        yield* PgClient.PgClient.use(
          (sql) => sql`select pg_terminate_backend(pid) from pg_stat_activity
            where datname = current_database() and application_name like 'effect-realtime%'`
        )
        // They may be back within 10 ms.
        yield* untilScraped(({ link_up, reader_up }) => link_up === 0 || reader_up === 0, 1)
        yield* untilHolds({
          'reconnects_total{session="link"}': 1,
          'reconnects_total{session="reader"}': 1,
          link_up: 1,
          reader_up: 1
        })
        yield* first.next("gap")
        yield* second.next("gap")
        holds(yield* scrape, { 'gaps_total{reason="source"}': 2 })
        first.socket.close()
        yield* untilHolds({ sessions: 1, subscriptions: 2 })
      }).pipe(Effect.scoped, Effect.provide(app))
    )
  )

  it.live("show the outbox, the oldest transaction and a consumer that lags", () =>
    apart(
      Effect.gen(function* () {
        const secondsSince = (at: number) => (performance.now() - at) / 1000
        const published = performance.now()
        for (let n = 0; n < 7; n++) yield* publish("log", n)
        const written = performance.now()
        const stored = yield* untilHolds({
          outbox_rows: 7,
          oldest_transaction_seconds: 0,
          notification_queue_ratio: 0
        })
        const db = yield* session
        const { rows } = yield* db.query(
          "select pg_total_relation_size('realtime.messages')::float8 bytes"
        )
        holds(stored, { outbox_bytes: rows[0]!["bytes"] as number })

        const begun = performance.now()
        yield* db.query("begin")
        yield* db.query("select pg_current_xact_id()::text")
        const open = yield* untilScraped((series) => series["oldest_transaction_seconds"]! > 0.05)
        holdsBetween(open, "oldest_transaction_seconds", 0.05, secondsSince(begun))
        yield* db.query("commit")
        yield* untilScraped((series) => series["oldest_transaction_seconds"] === 0)

        // The reader waits for the table, longer than between two of its looks.
        yield* db.query("begin")
        yield* db.query("lock table realtime.messages in access exclusive mode")
        const looked = performance.now()
        const first = (yield* scrape)["reader_lag_seconds"]!
        const behind = yield* untilScraped(({ reader_lag_seconds }) => reader_lag_seconds! > 1.2)
        holdsBetween(behind, "reader_lag_seconds", 1.2, first + secondsSince(looked))
        yield* db.query("rollback")
        yield* untilScraped(({ reader_lag_seconds }) => reader_lag_seconds! < 0.5)

        const held = yield* Deferred.make<void>()
        const entered = yield* Deferred.make<void>()
        const fiber = yield* Realtime.consume(Log, {
          name: "worker",
          start: "oldest",
          onEvents: () => Effect.andThen(Deferred.succeed(entered, undefined), Deferred.await(held))
        }).pipe(Effect.forkChild)
        yield* Deferred.await(entered)
        const least = secondsSince(written)
        const lags = yield* untilScraped((series) => series["consumer_lag_seconds"]! > 0.05)
        holdsBetween(lags, "consumer_lag_seconds", least, secondsSince(published))
        holds(lags, {
          'leases_held{lease="consumer"}': 1,
          'leases_taken_total{lease="consumer"}': 1,
          'leases_held{lease="reader"}': 0
        })
        yield* Deferred.succeed(held, undefined)
        yield* untilScraped((series) => series["consumer_lag_seconds"] === 0)
        yield* Fiber.interrupt(fiber)
        holds(yield* scrape, {
          'leases_held{lease="consumer"}': 0,
          'leases_taken_total{lease="consumer"}': 1,
          'lease_renewals_failed_total{lease="consumer"}': 0
        })
      }).pipe(Effect.scoped, Effect.provide(app))
    )
  )
})

describe("the lag of a consumer", () => {
  it.live("goes on where the consumer failed, until its events are handled or it is stopped", () =>
    apart(
      Effect.gen(function* () {
        let fails = true
        let handled = 0
        const consume = Realtime.consume(Log, {
          name: "worker",
          start: "oldest",
          onEvents: (events) =>
            Effect.suspend(() => {
              handled += events.length
              return fails ? Effect.fail("no") : Effect.void
            })
        })
        const above = (least: number) =>
          untilScraped((series) => series["consumer_lag_seconds"]! > least)
        yield* publish("log", 1)
        const written = performance.now()
        const age = () => (performance.now() - written) / 1000
        expect(yield* Effect.flip(consume)).toBe("no")
        const one = yield* above(0.2)
        holdsBetween(one, "consumer_lag_seconds", 0.2, age() + 1)
        // Another attempt fails as well, at the same event.
        expect(yield* Effect.flip(consume)).toBe("no")
        const other = yield* scrape
        holdsBetween(other, "consumer_lag_seconds", one["consumer_lag_seconds"]!, age() + 1)
        yield* above(0.5)
        fails = false
        const fiber = yield* Effect.forkChild(consume)
        yield* untilScraped((series) => series["consumer_lag_seconds"] === 0)
        yield* until(() => handled === 3)
        yield* Fiber.interrupt(fiber)
        yield* publish("log", 2)
        holds(yield* scrape, { consumer_lag_seconds: 0 })
        // It belongs to another channel.
        const conflict = Realtime.consume(Other, { name: "worker", onEvents: () => Effect.void })
        expect(yield* Effect.flip(conflict)).toMatchObject({ _tag: "ConsumerConflict" })
        yield* above(0.05)
      }).pipe(Effect.scoped, Effect.provide(layerDurable))
    )
  )

  it.live("is 0 where a worker failed at its start, and another one here is at the end", () =>
    apart(
      Effect.gen(function* () {
        let handled = 0
        const consume = Realtime.consume(Log, {
          name: "worker",
          start: "oldest",
          onEvents: (events) => Effect.sync(() => (handled += events.length))
        })
        yield* publish("log", 1)
        const first = yield* Effect.forkChild(consume)
        yield* until(() => handled === 1)
        const db = yield* session
        yield* untilScraped((series) => series["consumer_lag_seconds"] === 0)
        yield* db.query("alter table realtime.consumers rename to elsewhere")
        expect(yield* Effect.flip(consume)).toMatchObject({ _tag: "SqlError" })
        const failed = performance.now()
        yield* db.query("alter table realtime.elsewhere rename to consumers")
        yield* until(() => performance.now() - failed > 50)
        holds(yield* scrape, { consumer_lag_seconds: 0 })
        // No worker has the next event when the last one fails as well.
        yield* Fiber.interrupt(first)
        yield* db.query("alter table realtime.consumers rename to elsewhere")
        expect(yield* Effect.flip(consume)).toMatchObject({ _tag: "SqlError" })
        yield* untilScraped((series) => series["consumer_lag_seconds"]! > 0.05)
      }).pipe(Effect.scoped, Effect.provide(layerDurable))
    )
  )

  it.live("is not that of a worker that failed while another one goes on in its place here", () =>
    apart(
      Effect.gen(function* () {
        const entered = yield* Deferred.make<void>()
        const fail = yield* Deferred.make<never, string>()
        let handled = 0
        const worker = (onEvents: Effect.Effect<void, string>) =>
          Realtime.consume(Log, { name: "worker", start: "oldest", onEvents: () => onEvents })
        const first = yield* worker(
          Effect.andThen(Deferred.succeed(entered, undefined), Deferred.await(fail))
        ).pipe(Effect.flip, Effect.forkChild)
        yield* publish("log", 1)
        yield* Deferred.await(entered)
        const second = yield* worker(Effect.sync(() => void handled++)).pipe(Effect.forkChild)
        yield* Deferred.fail(fail, "no")
        expect(yield* Fiber.join(first)).toBe("no")
        yield* until(() => handled === 1)
        yield* untilScraped((series) => series["consumer_lag_seconds"] === 0)
        yield* Fiber.interrupt(second)
      }).pipe(Effect.scoped, Effect.provide(layerDurable))
    )
  )
})

describe("the metrics of a socket", () => {
  it.live(
    "show the bytes that wait while a client does not read, and the backlog that is dropped",
    () =>
      apart(
        Effect.gen(function* () {
          const { ws } = yield* Address
          const wire = yield* greet(ws)
          wire.send({ type: "subscribe", id: 1, channel: "texts" })
          yield* wire.next("subscribed")
          holds(yield* scrape, { mailbox_bytes: 0, backlogs_dropped_total: 0 })
          wire.socket.pause()
          const text = "x".repeat(7000)
          let published = 0
          /** What was published is written, or waits. */
          const publishMore = Effect.gen(function* () {
            for (let n = 0; n < 40; n++) yield* Realtime.publish(Texts, text)
            published += 40
            return yield* untilScraped(({ events_out_total }) => events_out_total === published)
          })
          // The buffers of the kernel fill first.
          const some = yield* Effect.repeat(publishMore, {
            until: ({ mailbox_bytes }) => mailbox_bytes! > 1_000_000
          })
          const waiting = some["mailbox_bytes"]!
          wire.socket.resume()
          const { bytes_out_total } = yield* untilScraped(
            ({ mailbox_bytes }) => mailbox_bytes === 0
          )
          holds(some, { mailbox_bytes: bytes_out_total! - some["bytes_out_total"]! })
          const received = () => wire.messages.reduce((sum, message) => sum + framed(message), 0)
          yield* until(() => received() === bytes_out_total)
          expect(waiting).toBeLessThan(received())
          holds(yield* scrape, { backlogs_dropped_total: 0, 'gaps_total{reason="slow"}': 0 })

          // More than may wait.
          wire.socket.pause()
          const full = yield* Effect.repeat(publishMore, {
            until: (series) => series["backlogs_dropped_total"] === 1
          })
          holds(full, { backlogs_dropped_total: 1, 'gaps_total{reason="slow"}': 1 })
          expect(full["mailbox_bytes"]).toBeLessThan(maxMailboxBytes)
          wire.socket.resume()
          expect(yield* wire.next("gap")).toMatchObject({ reason: "slow" })
        }).pipe(Effect.scoped, Effect.provide(slow))
      )
  )
})

describe("the metrics of several nodes of a process", () => {
  it.effect("add up, and show the bus that does not deliver", () =>
    apart(
      Effect.gen(function* () {
        const made = makeNetwork()
        const world: World = {
          carrier: (name) => carrierOf(made, name),
          keys: networkKeys(made)
        }
        const one = yield* busNode(world, "one")
        const others = yield* Effect.forEach(["two", "three"], (name) => busNode(world, name))
        yield* TestClock.adjust("1 seconds")
        for (let n = 0; n < 5; n++) {
          others[0]!.send(n)
          yield* TestClock.adjust("1 seconds")
        }
        expect(one.got).toEqual([0, 1, 2, 3, 4])
        // The first node has heard all of them. Each node hears itself too, and takes what others sent.
        const heard = [one, ...others].reduce((sum, { texts }) => sum + texts.length, 0)
        holds(yield* scrape, {
          bus_up: 1,
          bus_nodes: 2,
          bus_sent_total: one.texts.length,
          bus_received_total: heard - one.texts.length,
          'bus_dropped_total{reason="forged"}': 0
        })
        for (const [n, text] of ["a", "b", "c"].entries()) {
          one.hear(`1.0.${text}${n}`)
          one.hear(one.texts.at(-1 - n)!)
        }
        one.send("x".repeat(1_048_577))
        yield* TestClock.adjust("1 seconds")
        const strange = one.texts.slice(-4, -1)
        expect(strange).toHaveLength(3)
        holds(yield* scrape, {
          'bus_dropped_total{reason="forged"}': 3,
          'bus_dropped_total{reason="too-large"}': 1
        })
        // One of three is deaf.
        others[1]!.incoming = () => undefined
        yield* TestClock.adjust("4 seconds")
        holds(yield* scrape, { bus_up: 0, bus_nodes: 0 })
        others[1]!.incoming = (_, deliver) => deliver()
        yield* TestClock.adjust("2 seconds")
        holds(yield* scrape, { bus_up: 1, bus_nodes: 2 })
      }).pipe(Effect.scoped)
    )
  )

  it.effect("show the seats of all, and each message about them", () =>
    apart(
      Effect.gen(function* () {
        const network = new Network()
        const sent: Array<{ readonly t?: string; readonly k?: number }> = []
        network.lose = (_, __, content) => {
          if (content !== "beat") sent.push(content as (typeof sent)[number])
          return false
        }
        const start = (name: string) =>
          Effect.gen(function* () {
            const scope = yield* Scope.fork(yield* Effect.scope)
            const context = yield* Layer.build(
              Layer.fresh(Realtime.layerVolatile().pipe(Layer.provide(layerBus(network, name))))
            ).pipe(Scope.provide(scope))
            return { context, scope }
          })
        const enter = ({ context, scope }: Effect.Success<ReturnType<typeof start>>, at: string) =>
          Realtime.present(Room, { at }).pipe(Effect.provide(context), Scope.provide(scope))
        const one = yield* start("one")
        const two = yield* start("two")
        yield* TestClock.adjust("2 seconds")
        for (const at of ["a", "b", "c"]) yield* enter(one, at)
        for (const at of ["d", "e"]) yield* enter(two, at)
        yield* TestClock.adjust("2 seconds")
        const whole = () => sent.filter(({ k, t }) => t === "f" && k === 0).length
        // Each message goes to the one other node.
        holds(yield* scrape, {
          presence_seats: 5,
          presence_messages_total: sent.length,
          presence_whole_lists_total: whole()
        })
        // More changes than a node repeats: one that starts late receives the whole list.
        for (let n = 0; n < 150; n++) {
          yield* Effect.scoped(Effect.provide(Realtime.present(Room, { at: "x" }), one.context))
        }
        yield* start("three")
        yield* TestClock.adjust("2 seconds")
        expect(whole()).toBe(1)
        holds(yield* scrape, { presence_seats: 5, presence_whole_lists_total: 1 })
        yield* Scope.close(one.scope, Exit.void)
        yield* TestClock.adjust("1 seconds")
        holds(yield* scrape, { presence_seats: 2 })
      }).pipe(Effect.scoped)
    )
  )

  it.effect("show the volatile events that too many keys cost", () =>
    apart(
      Effect.gen(function* () {
        const network = new Network()
        const context = yield* Layer.build(
          Layer.fresh(Realtime.layerVolatile().pipe(Layer.provide(layerBus(network, "one"))))
        )
        const move = (user: string) => Effect.provide(Realtime.publish(Moves, { user }), context)
        // The first one leaves at once. Of the others at most 500 keys wait for 50 ms.
        yield* move("first")
        yield* TestClock.adjust(1)
        for (let n = 0; n < 600; n++) yield* move(`u${n}`)
        yield* TestClock.adjust(100)
        holds(yield* scrape, { volatile_dropped_total: 100 })
      }).pipe(Effect.scoped)
    )
  )

  it.live("show the leases, and the ticks of the elected reader", () =>
    apart(
      Effect.gen(function* () {
        const network = feedNetwork()
        /** Ticks that lead a node somewhere, by the node. */
        const ticks = new Map<string, Array<string>>()
        network.drops = (node, text) => {
          if (text.startsWith('{"r"') && !text.includes("\n")) {
            const { a, b } = JSON.parse(text) as { readonly a: string; readonly b: string }
            if (a !== b) ticks.set(node, [...(ticks.get(node) ?? []), text])
          }
          return false
        }
        const start = (name: string) =>
          Layer.build(Layer.fresh(layerReaderOnly().pipe(Layer.provide(network.layer(name)))))
        yield* start("one")
        yield* untilHolds({
          'leases_held{lease="reader"}': 1,
          'leases_taken_total{lease="reader"}': 1
        })
        const reader = Context.get(yield* start("two"), OutboxReader)
        const got = yield* numbersOf(reader, "log")
        yield* reader.position
        // Until the first tick arrives a node reads for itself.
        let published = 0
        const publishOne = Effect.gen(function* () {
          yield* publish("log", ++published)
          yield* until(() => got.length >= published)
          return yield* scrape
        })
        yield* Effect.repeat(publishOne, {
          until: (series) => series['feed_ticks_total{outcome="fed"}']! >= 10
        })
        expect(got).toEqual(Array.from({ length: published }, (_, n) => n + 1))
        const series = yield* scrape
        holdsBetween(series, 'feed_ticks_total{outcome="fed"}', 10, ticks.get("two")!.length)
        holds(series, { 'feed_ticks_total{outcome="refused"}': 0 })

        // A tick of another database, which both refuse.
        const last = ticks.get("two")!.at(-1)!
        const { identity } = parseTick(last)!.to
        const stranger = yield* Layer.build(network.layer("stranger"))
        const feed = yield* Context.get(stranger, FeedCarrier).join(identity, {
          tick: () => undefined,
          page: () => undefined
        })
        feed.sendTick(last.replaceAll(identity, "strange0"))
        yield* untilHolds({ 'feed_ticks_total{outcome="refused"}': 2 })

        // Another holder takes the lease.
        yield* PgClient.PgClient.use(
          (sql) => sql`update realtime.leases set incarnation = 'other', term = term + 1`
        )
        yield* untilHolds({
          'leases_held{lease="reader"}': 0,
          'lease_renewals_failed_total{lease="reader"}': 1
        })
      }).pipe(Effect.scoped, Effect.provide(layerInstalled()))
    )
  )
})

describe("the table of metrics", () => {
  /** Metrics that need a server of their own, and the files whose tests hold them against a load. */
  const elsewhere: Readonly<Record<string, string>> = {
    notificationQueue: "upkeep.test.ts",
    natsUp: "../nats/NatsConnection.test.ts",
    natsReconnects: "../nats/NatsConnection.test.ts",
    natsDropped: "../nats/internal/sealed.test.ts"
  }

  it("has no metric that no test holds against a load", () => {
    for (const [name, file] of Object.entries(elsewhere)) {
      expect(Fs.readFileSync(Path.join(import.meta.dirname, file), "utf8")).toContain(
        `metrics.${name}`
      )
    }
    const known = Object.entries(metrics).flatMap(([name, metric]) =>
      Metric.isMetric(metric) && !(name in elsewhere) ? [metric.id] : []
    )
    expect([...held].toSorted()).toEqual(known.toSorted())
  })
})
