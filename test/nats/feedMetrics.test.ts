/** What the metrics of a node say that is fed over a real NATS server, beside those of the node that feeds it. */
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Context, Effect, Layer, Metric } from "effect"
import * as NatsConnection from "../../src/nats/NatsConnection.ts"
import * as NatsFeed from "../../src/nats/NatsFeed.ts"
import { FeedCarrier } from "../../src/server/FeedCarrier.ts"
import { OutboxReader } from "../../src/server/OutboxReader.ts"
import { layerInstalled, layerReaderOnly, session } from "../server/support/durable.ts"
import { long } from "../server/support/random.ts"
import { scrape, type Series } from "../server/support/series.ts"
import { executablePath, natsServer } from "../support/natsServer.ts"

const backoff = { initial: 10, cap: 50, resetAfter: 30_000 }
const quick = { backoff, heartbeatInterval: 100, heartbeatTimeout: 200 }

/** A node with metrics of its own, and a line to NATS that the test cuts. */
const node = (address: string) =>
  Effect.gen(function* () {
    const registry: (typeof Metric.MetricRegistry)["Service"] = new Map()
    const line = { isCut: false, ticks: 0, heardAt: performance.now() }
    const carrier = Effect.map(NatsFeed.make, ({ join }) =>
      FeedCarrier.of({
        join: (identity, receiver) =>
          Effect.map(
            join(identity, {
              page: receiver.page,
              tick: (text) => {
                if (line.isCut) return
                line.ticks++
                line.heardAt = performance.now()
                receiver.tick(text)
              }
            }),
            (feed) => ({ ...feed, isUp: () => !line.isCut && feed.isUp() })
          )
      })
    )
    const context = yield* Layer.build(
      Layer.fresh(
        layerReaderOnly().pipe(
          Layer.provide(Layer.effect(FeedCarrier, carrier)),
          Layer.provide(NatsConnection.layer({ servers: address, ...quick }))
        )
      )
    ).pipe(Effect.provideService(Metric.MetricRegistry, registry))
    yield* Context.get(context, OutboxReader).position
    /** The most that the lag was above the time since the last tick, which says that nothing is new. */
    let beyond = -Infinity
    const scraped = Effect.map(scrape, (series) => {
      const age = (performance.now() - line.heardAt) / 1000
      beyond = Math.max(beyond, series["reader_lag_seconds"]! - age)
      return series
    }).pipe(Effect.provideService(Metric.MetricRegistry, registry))
    const look = { each: scraped, beyond: () => beyond, again: () => (beyond = -Infinity) }
    return { line, look }
  })

type Node = Effect.Success<ReturnType<typeof node>>

const feeds = (series: Series) => series['leases_held{lease="reader"}'] === 1

/** Looks at the series of each node until a condition holds. */
const watched = (nodes: ReadonlyArray<Node>, until: (each: ReadonlyArray<Series>) => boolean) =>
  Effect.repeat(Effect.delay(Effect.all(nodes.map(({ look }) => look.each)), 20), { until })

/** Looks at them while each hears so many ticks, and returns the most that a lag was beyond the last of them. */
const whileFed = (nodes: ReadonlyArray<Node>, ticks: number) =>
  Effect.gen(function* () {
    const from = nodes.map(({ line, look }) => {
      look.again()
      return line.ticks + ticks
    })
    yield* watched(nodes, () => nodes.every(({ line }, index) => line.ticks >= from[index]!))
    return Math.max(...nodes.map(({ look }) => look.beyond()))
  })

/** Seconds between the clocks that the lag and the test read. */
const near = 0.01

/** One that reads for all, one that is fed, and an outbox with 7 messages in which nothing more is written. */
const quietNodes = Effect.gen(function* () {
  const server = yield* natsServer()
  const first = yield* node(server.address)
  yield* watched([first], ([series]) => feeds(series!) && first.line.ticks > 0)
  const second = yield* node(server.address)
  const nodes = [first, second]
  yield* whileFed(nodes, 2)
  const sql = yield* PgClient.PgClient
  yield* sql`select realtime.publish('log', n::text) from generate_series(1, 7) n`
  yield* watched(nodes, (each) => each.every((series) => series["outbox_rows"] === 7))
  return { first, nodes }
})

/** Which nodes show the age of an open transaction: one that is fed looks at nothing. */
const agesOf = (each: ReadonlyArray<Series>): string =>
  String(each.map((series) => series["oldest_transaction_seconds"]! > 0))

const provided = Effect.provide(layerInstalled({ retention: "10 seconds" }))

describe.skipIf(executablePath === undefined)("A node that is fed over NATS", () => {
  it.live("is at the present with each tick, and shows the outbox as the one that feeds it", () =>
    Effect.gen(function* () {
      const { nodes } = yield* quietNodes
      expect(yield* whileFed(nodes, 4)).toBeLessThan(near)
    }).pipe(Effect.scoped, provided)
  )

  it.live.skipIf(!long)("shows the same after the roles have changed", () =>
    Effect.gen(function* () {
      const { first, nodes } = yield* quietNodes
      const db = yield* session
      yield* db.query("begin")
      yield* db.query("select pg_current_xact_id()::text")
      yield* watched(nodes, (each) => agesOf(each) === "true,false")

      first.line.isCut = true
      yield* watched(nodes, (each) => String(each.map(feeds)) === "false,true")
      first.line.isCut = false
      yield* whileFed(nodes, 1)
      expect(yield* whileFed(nodes, 8)).toBeLessThan(near)
      yield* watched(nodes, (each) => agesOf(each) === "false,true")
      yield* db.query("rollback")
      yield* watched(nodes, (each) => agesOf(each) === "false,false")
    }).pipe(Effect.scoped, provided)
  )
})
