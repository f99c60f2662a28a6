/** Reading once over a real NATS server: its loss, its largest message, and an account without rights. */
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Context, Effect, Layer, Metric, Redacted, Stream } from "effect"
import * as NatsConnection from "../../src/nats/NatsConnection.ts"
import * as NatsFeed from "../../src/nats/NatsFeed.ts"
import * as metrics from "../../src/server/internal/metrics.ts"
import { OutboxReader } from "../../src/server/OutboxReader.ts"
import { layerInstalled, layerReaderOnly } from "../server/support/durable.ts"
import { executablePath, natsServer } from "../support/natsServer.ts"
import { until } from "../support/until.ts"

const backoff = { initial: 10, cap: 50, resetAfter: 30_000 }
const quick = { backoff, heartbeatInterval: 100, heartbeatTimeout: 200 }

/** A name that is no legal token of a subject. */
const channel = ".log..of:orders."

const node = (address: string) =>
  Effect.gen(function* () {
    const context = yield* Layer.build(
      Layer.fresh(
        layerReaderOnly().pipe(
          Layer.provide(NatsFeed.layer),
          Layer.provide(NatsConnection.layer({ servers: address, ...quick }))
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
})
