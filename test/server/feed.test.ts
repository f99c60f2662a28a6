/** Several nodes that are fed by one of them, on real PostgreSQL; what carries the ticks is in memory. */
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Context, Effect, Exit, Layer, Logger, Metric, Scope } from "effect"
import * as metrics from "../../src/server/internal/metrics.ts"
import { OutboxReader } from "../../src/server/OutboxReader.ts"
import { feedNetwork, type FeedNetwork } from "../support/feedNetwork.ts"
import { until } from "../support/until.ts"
import { layerInstalled, layerReaderOnly, numbersOf } from "./support/durable.ts"
import { random, seed } from "./support/random.ts"

const node = (network: FeedNetwork, name: string) =>
  Effect.gen(function* () {
    const scope = yield* Scope.fork(yield* Effect.scope)
    const context = yield* Layer.buildWithScope(
      Layer.fresh(layerReaderOnly().pipe(Layer.provide(network.layer(name)))),
      scope
    )
    const reader = Context.get(context, OutboxReader)
    const got = yield* Scope.provide(numbersOf(reader, "log"), scope)
    return { name, got, reader, close: Scope.close(scope, Exit.void) }
  })

const outcome = (name: string) =>
  Effect.map(
    Metric.value(Metric.withAttributes(metrics.feedTicks, { outcome: name })),
    ({ count }) => Number(count)
  )

const publish = (from: number, to: number) =>
  PgClient.PgClient.use(
    (sql) =>
      sql`select realtime.publish('log', n::text) from generate_series(${from}::int, ${to}::int) n`
  )

const upTo = (n: number) => Array.from({ length: n }, (_, index) => index + 1)

describe("Nodes with a feed", () => {
  it.live(
    "one node reads for all; each event arrives once while it ends, and while frames are lost",
    () =>
      Effect.gen(function* () {
        const network = feedNetwork()
        const sql = yield* PgClient.PgClient
        const nodes = yield* Effect.forEach(["one", "two", "three"], (name) => node(network, name))
        // A stream has its position with its first item.
        yield* Effect.forEach(nodes, ({ reader }) => reader.position)
        yield* until(() => network.ticks > 3)
        const fed = yield* outcome("fed")
        for (let n = 1; n <= 40; n++) yield* publish(n, n)
        const all = (n: number) => until(() => nodes.every(({ got }) => got.length >= n))
        yield* all(40)
        // Each node counts when it rests.
        yield* Effect.repeat(Effect.delay(outcome("fed"), 10), { until: (n) => n > fed })

        const chance = random(seed)
        network.drops = () => chance.chance(0.3)
        for (let n = 41; n <= 80; n++) yield* publish(n, n)
        yield* all(80)
        network.drops = () => false
        // A message that no frame can carry, and many at once.
        network.maxBytes = 2000
        yield* sql`select realtime.publish('other', to_json(repeat('x', 5000))::text)`
        yield* publish(81, 300)
        yield* all(300)

        // Nothing is carried: each node reads for itself.
        network.up = false
        yield* publish(301, 320)
        yield* all(320)
        network.up = true
        yield* publish(321, 340)
        yield* all(340)
        for (const { got, name } of nodes) expect([name, got]).toEqual([name, upTo(340)])
      }).pipe(Effect.scoped, Effect.provide(layerInstalled()))
  )

  it.live(
    "another node reads for all when the elected one ends, which logs and metrics show",
    () => {
      const lines: Array<string> = []
      const logger = Logger.make(({ message }) => void lines.push(String(message)))
      const leases = Effect.gen(function* () {
        const labelled = { lease: "reader" }
        const held = yield* Metric.value(Metric.withAttributes(metrics.leasesHeld, labelled))
        const taken = yield* Metric.value(Metric.withAttributes(metrics.leasesTaken, labelled))
        return { held: Number(held.value), taken: Number(taken.count) }
      })
      return Effect.gen(function* () {
        const network = feedNetwork()
        const start = yield* leases
        const first = yield* node(network, "one")
        yield* until(() => network.ticks > 0)
        expect(yield* leases).toEqual({ held: start.held + 1, taken: start.taken + 1 })
        const second = yield* node(network, "two")
        yield* second.reader.position
        yield* publish(1, 5)
        yield* until(() => second.got.length >= 5)
        yield* first.close
        const before = network.ticks
        yield* publish(6, 10)
        yield* until(() => network.ticks > before + 2)
        yield* publish(11, 15)
        yield* until(() => second.got.length >= 15)
        expect(second.got).toEqual(upTo(15))
        expect(yield* leases).toEqual({ held: start.held + 1, taken: start.taken + 2 })
        expect(lines.filter((line) => line.includes("reads the outbox"))).toEqual([
          "This node reads the outbox for all nodes",
          "This node reads the outbox for all nodes"
        ])
      }).pipe(
        Effect.scoped,
        Effect.provide(layerInstalled()),
        Effect.provide(Logger.layer([logger]))
      )
    }
  )
})
