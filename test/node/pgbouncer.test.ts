/** PgBouncer in transaction mode, with the settings of the guide. */
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Layer, Redacted, Schema, Stream } from "effect"
import { TestClock } from "effect/testing"
import type * as Net from "node:net"
import * as Channel from "../../src/Channel.ts"
import { RealtimeServer } from "../../src/node/RealtimeServer.ts"
import * as OutboxReader from "../../src/server/OutboxReader.ts"
import * as PgInstaller from "../../src/server/PgInstaller.ts"
import * as PgNotificationSource from "../../src/server/PgNotificationSource.ts"
import * as Realtime from "../../src/server/Realtime.ts"
import { database, execute } from "../support/database.ts"
import { executablePath, pgbouncer } from "../support/pgbouncer.ts"
import { hurried } from "../support/until.ts"
import { greet } from "../support/wire.ts"
import { httpServer } from "../support/httpServer.ts"

const Orders = Channel.make("orders", Schema.Struct({ n: Schema.Finite }), {
  delivery: "durable",
  publish: true
})

/** Fewer sessions than clients, so that each session changes its client with every transaction. */
const connections = 2

const pool = (url: string) => PgClient.layer({ url: Redacted.make(url) })

/** A database installed as in the guide, with its direct URL and its URL through PgBouncer. */
const pooled = Effect.gen(function* () {
  const { url } = yield* database
  yield* Effect.provide(PgInstaller.install({ wake: "poll" }), pool(url))
  return { url, through: yield* pgbouncer(url, connections) }
})

const numbers = Array.from({ length: 40 }, (_, n) => n)

describe.skipIf(executablePath === undefined)("PgBouncer in transaction mode", () => {
  it.live("durable channels with wake: poll work through PgBouncer by the class", () =>
    Effect.gen(function* () {
      const { through, url } = yield* pooled
      const http = yield* httpServer
      const server = yield* Effect.acquireRelease(
        Effect.sync(
          () =>
            new RealtimeServer(http, through, {
              authorize: () => true,
              channels: [Orders],
              wake: "poll"
            })
        ),
        (server) => Effect.promise(() => server.close())
      )
      yield* Effect.promise(() => server.ready)
      const wire = yield* greet(
        `ws://127.0.0.1:${(http.address() as Net.AddressInfo).port}/realtime`
      )
      wire.send({ type: "subscribe", id: 1, channel: "orders" })
      yield* wire.next("subscribed")
      yield* Effect.promise(() => Promise.all(numbers.map((n) => server.publish(Orders, { n }))))
      const got = new Set<unknown>()
      while (got.size < numbers.length) {
        for (const { data } of (yield* wire.next("events")).events)
          got.add((data as { n: number }).n)
      }
      expect([...got].toSorted((one, other) => Number(one) - Number(other))).toEqual(numbers)
      const sessions = yield* execute(
        url,
        "select count(*)::int n from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
      )
      expect(sessions).toEqual([{ n: connections }])
    }).pipe(Effect.scoped)
  )

  it.live("durable channels work through PgBouncer by layers without a link", () =>
    Effect.gen(function* () {
      const { through } = yield* pooled
      yield* Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        const { cursor: from } = yield* Realtime.snapshot(Effect.void)
        yield* Effect.forEach(
          numbers,
          (n) => Effect.andThen(Realtime.publish(Orders, { n }), sql`select ${n}::int as other`),
          { concurrency: 8, discard: true }
        )
        const got = yield* Realtime.events(Orders, { from }).pipe(
          Stream.take(numbers.length),
          Stream.runCollect
        )
        const told = got.map((event) => (event._tag === "Event" ? event.payload.n : event.reason))
        expect(told.toSorted((one, other) => Number(one) - Number(other))).toEqual(numbers)
      }).pipe(
        Effect.provide(
          Realtime.layerDurable().pipe(
            Layer.provideMerge(OutboxReader.layer({ wake: "poll" })),
            Layer.provideMerge(pool(through))
          )
        )
      )
    }).pipe(Effect.scoped)
  )

  it.live("a link through PgBouncer fails at start, because it receives no notifications", () =>
    Effect.gen(function* () {
      const { through } = yield* pooled
      const start = PgNotificationSource.make({
        heartbeatInterval: "1 hour",
        heartbeatTimeout: "1 hour"
      })
      const error = yield* start.pipe(
        Effect.provide(pool(through)),
        Effect.flip,
        Effect.forkScoped,
        Effect.flatMap((fiber) => hurried(fiber)),
        Effect.provide(TestClock.layer())
      )
      expect(error._tag).toBe("ListenNotDelivered")
      expect(error.message).toContain("PgBouncer")
    }).pipe(Effect.scoped)
  )
})
