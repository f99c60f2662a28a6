/**
 * Repairs of nodes that are fed while the outbox is pruned and prepared transactions become visible late, on real
 * PostgreSQL; what carries the ticks loses half of them. Runs with REALTIME_TEST_LONG=1.
 */
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Context, Effect, Layer, Metric, Stream } from "effect"
import * as metrics from "../../src/server/internal/metrics.ts"
import { OutboxReader } from "../../src/server/OutboxReader.ts"
import { feedNetwork } from "../support/feedNetwork.ts"
import { until } from "../support/until.ts"
import { layerInstalled, layerReaderOnly, session } from "./support/durable.ts"
import { long, random, seed } from "./support/random.ts"

const repaired = Effect.map(
  Metric.value(Metric.withAttributes(metrics.feedTicks, { outcome: "repaired" })),
  ({ count }) => Number(count)
)

const seconds = 15

describe.skipIf(!long)("Nodes with a feed", () => {
  it.live(
    `lose nothing and double nothing while the outbox is pruned and prepared transactions end late, seed ${seed}`,
    () =>
      Effect.gen(function* () {
        const network = feedNetwork()
        const chance = random(seed)
        const sql = yield* PgClient.PgClient
        const committed = new Set<number>()
        const start = yield* repaired

        const nodes = yield* Effect.forEach(["one", "two", "three", "four"], (name) =>
          Effect.gen(function* () {
            const context = yield* Layer.build(
              Layer.fresh(layerReaderOnly().pipe(Layer.provide(network.layer(name))))
            )
            const got: Array<number> = []
            /** What was committed when the node last received a gap. */
            let excused: ReadonlySet<number> = new Set()
            let gaps = 0
            yield* Context.get(context, OutboxReader)
              .batches("log")
              .pipe(
                Stream.runForEach((item) =>
                  Effect.sync(() => {
                    if (item._tag === "Gap") {
                      gaps++
                      excused = new Set(committed)
                    }
                    if (item._tag === "Batch") {
                      got.push(...item.events.map(({ text }) => Number(text)))
                    }
                  })
                ),
                Effect.forkScoped
              )
            yield* Context.get(context, OutboxReader).position
            return { name, got, gaps: () => gaps, excused: () => excused }
          })
        )
        yield* until(() => network.ticks > 2)
        network.drops = () => chance.chance(0.5)

        let number = 0
        const end = performance.now() + seconds * 1000
        let late = 0
        const writer = (index: number) =>
          Effect.gen(function* () {
            const db = yield* session
            const own = random(seed + index)
            while (performance.now() < end) {
              const n = ++number
              const kind = own.next()
              yield* db.query("begin")
              yield* db.query(`select realtime.publish('log', '${n}')`)
              if (kind < 0.15) {
                yield* db.query("rollback")
              } else if (kind < 0.55) {
                // Others commit meanwhile, and the outbox is pruned.
                yield* db.query(`prepare transaction 'n${n}'`)
                yield* Effect.sleep(own.int(1500))
                const isKept = own.chance(0.8)
                yield* db.query(`${isKept ? "commit" : "rollback"} prepared 'n${n}'`)
                if (isKept) {
                  late++
                  committed.add(n)
                }
              } else {
                yield* db.query("commit")
                committed.add(n)
              }
              yield* Effect.sleep(own.int(40))
            }
          })
        yield* Effect.forEach([1, 2, 3, 4, 5, 6], writer, { concurrency: "unbounded" })
        yield* until(() =>
          nodes.every(({ excused, got }) => {
            const seen = new Set(got)
            return [...committed].every((n) => seen.has(n) || excused().has(n))
          })
        )
        for (const { got, name } of nodes) {
          expect([name, got.length]).toEqual([name, new Set(got).size])
          expect([name, got.filter((n) => !committed.has(n))]).toEqual([name, []])
        }
        const [row] = yield* sql<{ n: number }>`select count(*)::int n from realtime.messages`
        // It was pruned all the time, and missing ticks were read all the time.
        expect(row!.n).toBeLessThan(committed.size * 0.7)
        expect((yield* repaired) - start).toBeGreaterThan(seconds)
        yield* Effect.logInfo(
          `${committed.size} commits, ${late} of them prepared, ${row!.n} left in the outbox, ${(yield* repaired) - start} repairs, gaps ${nodes.map(({ gaps }) => gaps()).join(" ")}`
        )
      }).pipe(
        Effect.scoped,
        Effect.provide(layerInstalled({ wake: "poll", retention: "3 seconds" }))
      ),
    90_000
  )
})
