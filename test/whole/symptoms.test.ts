/**
 * Known failures of other systems, each with a test that this library does not have it. Failures that
 * concern one module are tested with that module.
 */
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Layer, Queue, Random, Redacted, Scope } from "effect"
import { lost, NotificationSource } from "../../src/server/NotificationSource.ts"
import * as PgNotificationSource from "../../src/server/PgNotificationSource.ts"
import { RealtimeServer } from "../../src/node/RealtimeServer.ts"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { database, execute, layerDatabase } from "../support/database.ts"
import { databaseHop } from "../support/hop.ts"
import { greet } from "../support/wire.ts"
import { listenTo } from "../support/listenTo.ts"

const source = PgNotificationSource.layer({
  backoff: { initial: 10, cap: 50, resetAfter: 30_000 }
}).pipe(Layer.provideMerge(layerDatabase))

const doorOf = (url: string, listenUrl = url) =>
  Effect.gen(function* () {
    const http = createServer()
    yield* Effect.callback<void>((resume) => {
      http.listen(0, "127.0.0.1", () => resume(Effect.void))
    })
    const server = new RealtimeServer(http, url, {
      authorize: () => true,
      listenUrl,
      limits: {
        subscribeRate: { perSecond: 10_000, burst: 10_000 },
        frameRate: { perSecond: 1e6, burst: 1e6 }
      }
    })
    yield* Effect.addFinalizer(() =>
      Effect.promise(async () => {
        await server.close()
        http.close()
      })
    )
    yield* Effect.promise(() => server.ready)
    return `ws://127.0.0.1:${(http.address() as AddressInfo).port}/realtime`
  })

describe("known failures of other systems", () => {
  it.live(
    "a client receives status down within 8 s when the path to the database goes silent, then a gap",
    () =>
      Effect.gen(function* () {
        const { url } = yield* database
        const path = yield* databaseHop(url)
        const wire = yield* greet(yield* doorOf(url, path.url))
        wire.send({ type: "subscribe", id: 1, channel: "query_results_1" })
        yield* wire.next("subscribed")
        const commit = (n: number) =>
          execute(url, `select pg_notify('query_results_1', '{"status":"completed","data":${n}}')`)
        yield* commit(1)
        yield* wire.next("events")
        // The link uses listenUrl, the pool does not.
        path.silence()
        const before = performance.now()
        yield* commit(2)
        expect((yield* wire.next("status")).source).toBe("down")
        // The default heartbeat: every 5 s, with 2 s to answer.
        expect(performance.now() - before).toBeLessThan(8000)
        path.heal()
        expect((yield* wire.next("status")).source).toBe("up")
        yield* commit(3)
        yield* wire.next("events")
        const told = wire.frames.flatMap((frame): ReadonlyArray<unknown> =>
          frame.type === "events"
            ? frame.events.map(({ data }) => (data as { readonly data: number }).data)
            : frame.type === "gap"
              ? [`gap ${frame.reason}`]
              : []
        )
        // The gap covers the commit during the silence.
        expect(told).toEqual([1, "gap source", 3])
      }).pipe(Effect.scoped),
    60_000
  )

  it.live("a listener receives a gap for events that commit while the link reconnects", () =>
    Effect.gen(function* () {
      const notifications = yield* NotificationSource
      const sql = yield* PgClient.PgClient
      const queue = yield* listenTo(notifications, "orders")
      const total = 1000
      const writer = yield* Effect.forEach(
        Array.from({ length: total }, (_, n) => n),
        (n) => sql`select pg_notify('orders', ${String(n)})`
      ).pipe(Effect.forkChild)
      for (let round = 0; round < 3; round++) {
        yield* Effect.sleep(20)
        yield* sql`select pg_terminate_backend(pid) from pg_stat_activity
          where datname = current_database() and application_name = 'effect-realtime link'`
      }
      yield* Fiber.join(writer)
      const items: Array<string | typeof lost> = []
      const reader = yield* Effect.gen(function* () {
        while (!items.includes("end")) items.push(...(yield* Queue.takeAll(queue)))
      }).pipe(Effect.forkChild)
      // Repeated until received, because it may fall into the last gap.
      yield* sql`select pg_notify('orders', 'end')`.pipe(
        Effect.andThen(Effect.sleep(20)),
        Effect.forever,
        Effect.raceFirst(Fiber.join(reader))
      )
      let last = -1
      let told = false
      for (const item of items) {
        if (item === lost) told = true
        else if (item !== "end") {
          const n = Number(item)
          expect(n).toBeGreaterThan(last)
          // Missing numbers require a gap.
          if (n !== last + 1) expect(told, `${last + 1} to ${n - 1} are missing`).toBe(true)
          last = n
          told = false
        }
      }
    }).pipe(Effect.scoped, Effect.provide(source))
  )

  it.live(
    "a client receives status down within 1 s when the link is killed, then status up and a gap",
    () =>
      Effect.gen(function* () {
        const { url } = yield* database
        const wire = yield* greet(yield* doorOf(url))
        wire.send({ type: "subscribe", id: 1, channel: "system_notifications" })
        yield* wire.next("subscribed")
        const before = performance.now()
        yield* execute(
          url,
          "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = 'effect-realtime link'"
        )
        expect((yield* wire.next("status")).source).toBe("down")
        expect(performance.now() - before).toBeLessThan(1000)
        expect((yield* wire.next("status")).source).toBe("up")
        expect((yield* wire.next("gap")).reason).toBe("source")
      }).pipe(Effect.scoped)
  )

  it.live("a listener receives all 300 events while 100 others start and stop listening", () =>
    Effect.gen(function* () {
      const notifications = yield* NotificationSource
      const sql = yield* PgClient.PgClient
      const stays = yield* listenTo(notifications, "orders")
      const restless = Effect.gen(function* () {
        for (let round = 0; round < 20; round++) {
          const scope = yield* Scope.make()
          yield* Scope.provide(listenTo(notifications, "orders"), scope)
          yield* Effect.sleep((yield* Random.next) * 5)
          yield* Scope.close(scope, Exit.void)
        }
      })
      const crowd = yield* Effect.forEach(Array.from({ length: 100 }), () => restless, {
        concurrency: "unbounded",
        discard: true
      }).pipe(Effect.forkChild)
      const total = 300
      for (let n = 0; n < total; n++) yield* sql`select pg_notify('orders', ${String(n)})`
      yield* Fiber.join(crowd)
      expect(yield* Queue.takeN(stays, total)).toEqual(
        Array.from({ length: total }, (_, n) => String(n))
      )
    }).pipe(Effect.scoped, Effect.provide(source))
  )

  it.live("a client receives each event that commits right after `subscribed`", () =>
    Effect.gen(function* () {
      const { url } = yield* database
      const wire = yield* greet(yield* doorOf(url))
      const pool = yield* Layer.build(
        PgClient.layer({ url: Redacted.make(url), maxConnections: 1 })
      )
      const sql = yield* Effect.provideContext(PgClient.PgClient, pool)
      for (let round = 0; round < 1000; round++) {
        const name = `query_results_${round % 50}`
        wire.send({ type: "subscribe", id: 2 * round, channel: name })
        yield* wire.next("subscribed")
        yield* sql`select pg_notify(${name}, ${`{"status":"completed","data":${round}}`})`
        const { events } = yield* wire.next("events")
        expect(events.map(({ data }) => data)).toEqual([{ status: "completed", data: round }])
        wire.send({ type: "unsubscribe", id: 2 * round + 1, channel: name })
        yield* wire.next("unsubscribed")
      }
    }).pipe(Effect.scoped)
  )
})
