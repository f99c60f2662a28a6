/**
 * What PostgreSQL has to do when NATS dies under eight nodes, each with a hop of its own that counts its statements.
 * Runs with REALTIME_TEST_LONG=1, and prints the counts.
 */
import { describe, expect, it } from "@effect/vitest"
import { Context, Effect, Layer, Redacted } from "effect"
import { statementsOf } from "../../bench/lib/statements.ts"
import * as NatsConnection from "../../src/nats/NatsConnection.ts"
import * as NatsFeed from "../../src/nats/NatsFeed.ts"
import { OutboxReader } from "../../src/server/OutboxReader.ts"
import { layerInstalled, layerReaderOnly, numbersOf } from "../server/support/durable.ts"
import { long } from "../server/support/random.ts"
import { execute, TestDatabase } from "../support/database.ts"
import { databaseHop } from "../support/hop.ts"
import { executablePath, natsServer } from "../support/natsServer.ts"
import { until } from "../support/until.ts"

const backoff = { initial: 10, cap: 50, resetAfter: 30_000 }
const nodeCount = 8

/** A node, and when each of its statements left, in milliseconds of the process. */
const node = (servers: string) =>
  Effect.gen(function* () {
    const { url } = yield* TestDatabase
    const statements: Array<number> = []
    const through = yield* databaseHop(
      url,
      statementsOf(() => void statements.push(performance.now()))
    )
    const context = yield* Layer.build(
      Layer.fresh(
        layerReaderOnly({ upkeep: false, readUrl: Redacted.make(through.url) }).pipe(
          Layer.provide(NatsFeed.layer),
          Layer.provide(NatsConnection.layer({ servers, backoff }))
        )
      )
    )
    const reader = Context.get(context, OutboxReader)
    const got = yield* numbersOf(reader, "log")
    yield* reader.position
    return { got, statements }
  })

describe.skipIf(!long || executablePath === undefined)("Eight nodes whose NATS dies", () => {
  it.live(
    "begin to read for themselves over a second, and are fed again when it is back",
    () =>
      Effect.gen(function* () {
        const { url } = yield* TestDatabase
        const server = yield* natsServer()
        const nodes = yield* Effect.all(
          Array.from({ length: nodeCount }, () => node(server.address)),
          { concurrency: "unbounded" }
        )
        let n = 0
        let over = false
        yield* Effect.whileLoop({
          while: () => !over,
          body: () =>
            Effect.andThen(
              execute(url, `select realtime.publish('log', '${++n}')`),
              Effect.sleep(20)
            ),
          step: () => undefined
        }).pipe(Effect.forkScoped)

        /** Statements of all nodes between two times. */
        const between = (from: number, to: number) =>
          nodes.flatMap(({ statements }) => statements.filter((at) => at >= from && at < to)).length
        /** Statements in a second, once that many at most pass. */
        const calm = (most: number) =>
          Effect.gen(function* () {
            while (true) {
              const from = performance.now()
              yield* Effect.sleep(2000)
              const perSecond = between(from, performance.now()) / 2
              if (perSecond <= most) return perSecond
            }
          })
        // One node reads, and the others send no statement but at times one of the lease.
        const fed = yield* calm(120)

        yield* server.stop
        const at = performance.now()
        yield* Effect.sleep(4000)
        const after = performance.now()
        const firsts = nodes.map(
          ({ statements }) => statements.find((time) => time > at + 800)! - at
        )
        const alone = between(after - 1500, after) / 1.5
        const peak = Math.max(
          ...Array.from({ length: 39 }, (_, k) => between(at + k * 100, at + k * 100 + 100))
        )
        yield* server.start
        const again = yield* calm(120)
        over = true
        yield* until(() => nodes.every(({ got }) => got.length >= n - 1))
        for (const { got } of nodes) {
          expect(got.slice(0, n - 1)).toEqual(Array.from({ length: n - 1 }, (_, k) => k + 1))
        }
        yield* Effect.logInfo(
          `statements/s of ${nodeCount} nodes: fed ${fed}, alone ${alone.toFixed(0)}, again ${again}; peak ${peak} in 100 ms; first looks after ${firsts.map((time) => time.toFixed(0)).join(" ")} ms`
        )
        // The jitter spreads them, and no second is worse than those that follow.
        expect(Math.max(...firsts) - Math.min(...firsts)).toBeGreaterThan(250)
        expect(peak).toBeLessThan((alone / 10) * 3 + 40)
      }).pipe(Effect.scoped, Effect.provide(layerInstalled())),
    120_000
  )
})
