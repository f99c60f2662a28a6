/** Reading once over a real NATS server: its loss, its largest message, and an account without rights. */
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Context, Effect, Layer, Metric, Redacted, Stream } from "effect"
import * as NatsConnection from "../../src/nats/NatsConnection.ts"
import * as NatsFeed from "../../src/nats/NatsFeed.ts"
import * as metrics from "../../src/server/internal/metrics.ts"
import { OutboxReader } from "../../src/server/OutboxReader.ts"
import { layerInstalled, layerReaderOnly } from "../server/support/durable.ts"
import { long } from "../server/support/random.ts"
import { executablePath, natsCluster, natsServer } from "../support/natsServer.ts"
import { until } from "../support/until.ts"

const backoff = { initial: 10, cap: 50, resetAfter: 30_000 }
const quick = { backoff, heartbeatInterval: 100, heartbeatTimeout: 200 }

/** A name that is no legal token of a subject. */
const channel = ".log..of:orders."

const node = (address: string | ReadonlyArray<string>, user = {}) =>
  Effect.gen(function* () {
    const context = yield* Layer.build(
      Layer.fresh(
        layerReaderOnly().pipe(
          Layer.provide(NatsFeed.layer),
          Layer.provide(NatsConnection.layer({ servers: address, ...quick, ...user }))
        )
      )
    )
    const reader = Context.get(context, OutboxReader)
    const got: Array<number> = []
    yield* reader.batches(channel).pipe(
      Stream.runForEach((item) =>
        Effect.sync(() => {
          if (item._tag === "Gap") got.push(-1)
          if (item._tag !== "Batch") return
          got.push(...item.events.map(({ text }) => (JSON.parse(text) as { n: number }).n))
        })
      ),
      Effect.forkScoped
    )
    yield* reader.position
    return got
  })

const publish = (from: number, to: number, fill = 0) =>
  PgClient.PgClient.use(
    (sql) =>
      sql`select realtime.publish(${channel}, json_build_object('n', n, 'fill', repeat('x', ${fill}::int))::text) from generate_series(${from}::int, ${to}::int) n`
  )

const fed = Effect.map(
  Metric.value(Metric.withAttributes(metrics.feedTicks, { outcome: "fed" })),
  ({ count }) => Number(count)
)

describe.skipIf(executablePath === undefined)("NatsFeed", () => {
  it.live("nodes are fed, read for themselves while NATS is away, and are fed again", () =>
    Effect.gen(function* () {
      const server = yield* natsServer("max_payload: 65536")
      const nodes = yield* Effect.all([node(server.address), node(server.address)])
      const all = (n: number) => until(() => nodes.every((got) => got.length >= n))
      const before = yield* fed
      let n = 0
      const feeds = Effect.gen(function* () {
        const start = yield* fed
        while ((yield* fed) === start) {
          n++
          yield* publish(n, n)
          yield* all(n)
        }
      })
      yield* feeds
      expect((yield* fed) > before).toBe(true)
      // Pages of the largest size, and messages that fit in none.
      yield* publish(n + 1, n + 200, 2000)
      yield* publish(n + 201, n + 203, 100_000)
      n += 203
      yield* all(n)
      yield* server.stop
      yield* publish(n + 1, n + 20)
      n += 20
      yield* all(n)
      yield* server.start
      yield* feeds
      for (const got of nodes) expect(got).toEqual(Array.from({ length: n }, (_, k) => k + 1))
    }).pipe(Effect.scoped, Effect.provide(layerInstalled()))
  )

  it.live("an account that may not use a subject fails at the start, with its name", () =>
    Effect.gen(function* () {
      const rights = (deny: string) =>
        `authorization { users = [ { user: "node", password: "right", permissions: { ${deny} } } ] }`
      const server = yield* natsServer(rights('publish: "effect_realtime.>", subscribe: "none"'))
      const connection = NatsConnection.layer({
        servers: server.address,
        user: "node",
        password: Redacted.make("right"),
        ...quick
      })
      const error = yield* Effect.flip(NatsFeed.make.pipe(Effect.provide(connection)))
      expect(error).toMatchObject({
        _tag: "NatsForbidden",
        operation: "subscribe",
        subject: expect.stringMatching(/\.(tick|page\.realtime)$/)
      })
    }).pipe(Effect.scoped, Effect.provide(layerInstalled()))
  )

  it.live.skipIf(!long)(
    "a node whose rights are taken reads for itself, and is fed again when it has them back",
    () =>
      Effect.gen(function* () {
        const rights = (allow: string) =>
          `authorization { users = [ { user: "node", password: "right", permissions: { publish: "${allow}", subscribe: "${allow}" } } ] }`
        const server = yield* natsServer(rights("effect_realtime.>"))
        const user = { user: "node", password: Redacted.make("right") }
        const nodes = yield* Effect.all([node(server.address, user), node(server.address, user)])
        let n = 0
        const more = Effect.gen(function* () {
          n++
          yield* publish(n, n)
          yield* until(() => nodes.every((got) => got.length >= n))
        })
        const feeds = Effect.gen(function* () {
          const start = yield* fed
          while ((yield* fed) === start) yield* more
        })
        yield* feeds
        yield* server.reload(rights("effect_realtime.none.>"))
        // Until what was fed on the way is over.
        const stops = Effect.gen(function* () {
          const start = yield* fed
          yield* Effect.repeat(more, { times: 20 })
          return (yield* fed) === start
        })
        yield* Effect.repeat(stops, { until: (over) => over })
        yield* server.reload(rights("effect_realtime.>"))
        yield* feeds
        for (const got of nodes) expect(got).toEqual(Array.from({ length: n }, (_, k) => k + 1))
      }).pipe(Effect.scoped, Effect.provide(layerInstalled()))
  )

  it.live.skipIf(!long)(
    "three servers of a cluster: nodes are fed after the loss of one, and of two, and when they are back",
    () =>
      Effect.gen(function* () {
        const servers = yield* natsCluster(3)
        const addresses = servers.map(({ address }) => address)
        const nodes = yield* Effect.all(Array.from({ length: 6 }, () => node(addresses)))
        let n = 0
        const feeds = Effect.gen(function* () {
          const start = yield* fed
          // More than the nodes of one server take.
          while ((yield* fed) < start + 20 * nodes.length) {
            n++
            yield* publish(n, n)
            yield* until(() => nodes.every((got) => got.length >= n))
          }
        })
        yield* feeds
        for (const [first, second] of [
          [0, 1],
          [1, 2],
          [2, 0]
        ] as const) {
          yield* servers[first]!.stop
          yield* feeds
          yield* servers[second]!.stop
          yield* feeds
          yield* Effect.all([servers[first]!.start, servers[second]!.start])
          yield* feeds
        }
        for (const got of nodes) expect(got).toEqual(Array.from({ length: n }, (_, k) => k + 1))
      }).pipe(Effect.scoped, Effect.provide(layerInstalled())),
    120_000
  )
})
