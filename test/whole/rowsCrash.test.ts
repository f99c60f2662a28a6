/**
 * The rows of clients on real PostgreSQL and real sockets, while writers run, the database crashes, and
 * sockets are cut. Each transaction changes both rows of a pair in the same way, so rows that are live and
 * not those of one position are seen by a half pair. At the end they are those of a `select`.
 */
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Fiber, Redacted, Schedule } from "effect"
import { RealtimeServer } from "effect-realtime/node"
import { PgInstaller } from "effect-realtime/server"
import type { AddressInfo } from "node:net"
import { long, random, seed } from "../server/support/random.ts"
import { ownServer } from "../support/cluster.ts"
import { execute } from "../support/database.ts"
import { hop } from "../support/hop.ts"
import { httpServer } from "../support/httpServer.ts"
import { until } from "../support/until.ts"
import { changePair, Collections, createParts, type Part, Parts } from "./support/pairs.ts"

describe("the rows of clients of real PostgreSQL", () => {
  it.live(
    `are those of one position while they are live, across crashes (REALTIME_TEST_SEED=${seed})`,
    () =>
      Effect.gen(function* () {
        const dice = random(seed)
        const { int } = dice
        const postgres = yield* ownServer()
        const { url } = postgres
        const layerPg = PgClient.layer({ url: Redacted.make(url) })
        yield* execute(url, createParts)
        yield* Effect.andThen(PgInstaller.install(), PgInstaller.watch({ channel: Parts })).pipe(
          Effect.provide(layerPg)
        )
        const http = yield* httpServer
        const server = yield* Effect.acquireRelease(
          Effect.sync(
            () => new RealtimeServer(http, url, { channels: [Parts], authorize: () => true })
          ),
          (server) => Effect.promise(() => server.close())
        )
        yield* Effect.promise(() => server.ready)
        const toServer = yield* hop({
          host: "127.0.0.1",
          port: (http.address() as AddressInfo).port
        })

        const collections = new Collections()
        for (let client = 0; client < 6; client++) {
          yield* collections.add(`ws://127.0.0.1:${toServer.port}/realtime`)
        }

        let over = false
        const change = Effect.suspend(() => changePair(dice))
        const writing = yield* Effect.forEach(
          Array(8).fill(undefined),
          () =>
            Effect.whileLoop({
              while: () => !over,
              body: () => Effect.andThen(Effect.exit(change), Effect.sleep(int(20))),
              step: () => {}
            }),
          { concurrency: "unbounded", discard: true }
        ).pipe(Effect.provide(layerPg), Effect.forkScoped)

        for (let fault = 0; fault < (long ? 30 : 4); fault++) {
          const before = collections.compared
          yield* until(() => collections.compared >= before + 15 && collections.areLive)
          yield* Effect.sleep(int(200))
          if (fault % 2 === 0) toServer.cut()
          else yield* postgres.crash
        }
        yield* Effect.sleep(200)
        over = true
        yield* Fiber.join(writing)

        const rows = (yield* execute(url, "select * from parts").pipe(
          Effect.retry(Schedule.upTo(Schedule.spaced(100), { times: 50 }))
        )) as unknown as ReadonlyArray<Part>
        yield* until(() => collections.equal(rows))
        const { compared, stale, wrong } = collections
        expect({ seed, wrong }).toEqual({ seed, wrong: [] })
        // The test is meaningful only if much was compared, and the faults were felt.
        expect(compared).toBeGreaterThan(60)
        expect(stale).toBeGreaterThan(3)
      }).pipe(Effect.scoped),
    long ? 180_000 : 60_000
  )
})
