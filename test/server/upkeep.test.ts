/** What a node's upkeep reports of the database. */
import { PgClient, PgConnection } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Layer, Logger, Metric, Queue, Redacted } from "effect"
import * as metrics from "../../src/server/internal/metrics.ts"
import * as PgInstaller from "../../src/server/PgInstaller.ts"
import { ownServer } from "../support/cluster.ts"
import { layerReaderOnly } from "./support/durable.ts"

describe("upkeep", () => {
  it.live("a reader measures PostgreSQL's notification queue, and warns when it is half full", () =>
    Effect.gen(function* () {
      // The smallest queue: a page holds one notification of this size.
      const postgres = yield* ownServer({ max_notify_queue_pages: "64" })
      const url = Redacted.make(postgres.url)
      const warnings = yield* Queue.unbounded<string>()
      const usage = Effect.map(Metric.value(metrics.notificationQueue), ({ value }) => value)
      const untilUsage = (condition: (usage: number) => boolean) =>
        Effect.repeat(Effect.delay(usage, "5 millis"), { until: condition })
      yield* Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        // This session listens, and reads nothing for as long as its transaction is open.
        const stuck = yield* PgConnection.make({ url })
        yield* stuck.query("listen elsewhere")
        yield* stuck.query("begin")
        const fill = (pages: number) =>
          sql`select pg_notify('elsewhere', n || repeat('x', 7900)) from generate_series(1, ${pages}::int) n`
        yield* fill(20)
        yield* untilUsage((usage) => usage > 0.25)
        expect(yield* Queue.size(warnings)).toBe(0)
        yield* fill(20)
        expect(yield* untilUsage((usage) => usage > 0.5)).toBeLessThan(0.75)
        expect(yield* Queue.take(warnings)).toMatch(/notification queue is 6\d % full/)
        yield* stuck.query("commit")
        yield* untilUsage((usage) => usage < 0.1)
      }).pipe(
        Effect.provide(
          layerReaderOnly().pipe(
            Layer.provideMerge(PgInstaller.layer({ retention: "1 second", wake: "poll" })),
            Layer.provideMerge(PgClient.layer({ url }))
          )
        ),
        Effect.provide(
          Logger.layer([
            Logger.make(({ logLevel, message }) => {
              if (logLevel === "Warn") Queue.offerUnsafe(warnings, [message].flat().join(" "))
            })
          ])
        )
      )
    }).pipe(Effect.scoped)
  )
})
