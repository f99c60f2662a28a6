import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Queue, Redacted, Stream, SubscriptionRef } from "effect"
import * as Net from "node:net"
import { statementsOf } from "../../bench/lib/statements.ts"
import { address } from "../../src/server/internal/link/pgLink.ts"
import { leastMisses } from "../../src/server/internal/link/selfTest.ts"
import {
  lost,
  type Heard,
  NotificationSource,
  type SourceState
} from "../../src/server/NotificationSource.ts"
import * as PgNotificationSource from "../../src/server/PgNotificationSource.ts"
import { ownServer } from "../support/cluster.ts"
import { database, execute, layerDatabase, TestDatabase } from "../support/database.ts"
import { databaseHop } from "../support/hop.ts"
import { suite } from "./NotificationSourceSuite.ts"
import { listenTo } from "../support/listenTo.ts"
import { waitFor } from "../support/until.ts"

const quick: PgNotificationSource.Options = {
  backoff: { initial: 10, cap: 100, resetAfter: 30_000 }
}

const layer = PgNotificationSource.layer(quick).pipe(Layer.provideMerge(layerDatabase))

const layerPoolOfOne = PgNotificationSource.layer(quick).pipe(
  Layer.provideMerge(
    Layer.unwrap(
      Effect.map(database, ({ url }) =>
        PgClient.layer({ url: Redacted.make(url), maxConnections: 1 })
      )
    )
  )
)

const terminateLinks = `select pg_terminate_backend(pid) from pg_stat_activity
  where datname = current_database() and application_name = 'effect-realtime link'`
const terminateLink = PgClient.PgClient.use((sql) => sql.unsafe(terminateLinks)).pipe(Effect.orDie)

{
  let sql: PgClient.PgClient
  const kept = Layer.effectContext(
    Effect.gen(function* () {
      sql = yield* PgClient.PgClient
      return yield* Effect.context<NotificationSource>()
    })
  ).pipe(Layer.provide(layer))
  suite(
    "PostgreSQL",
    kept,
    Effect.succeed({
      send: (channel, payload) =>
        Effect.suspend(() => sql`select pg_notify(${channel}, ${payload})`).pipe(
          Effect.asVoid,
          Effect.orDie
        ),
      cut: Effect.suspend(() => Effect.provideService(terminateLink, PgClient.PgClient, sql)).pipe(
        Effect.asVoid
      ),
      heal: Effect.void
    })
  )
}

describe("PgNotificationSource", () => {
  it.live(
    "1,000 channels share one connection to PostgreSQL, beside a connection pool that has only one",
    () =>
      Effect.gen(function* () {
        const source = yield* NotificationSource
        const sql = yield* PgClient.PgClient
        const queues = yield* Effect.forEach(
          Array.from({ length: 1000 }, (_, index) => `channel_${index}`),
          (name) => listenTo(source, name),
          { concurrency: "unbounded" }
        )
        const count = yield* sql`
        select count(*)::int as links from pg_stat_activity
        where datname = current_database() and application_name like 'effect-realtime%'`
        expect(count).toEqual([{ links: 1 }])
        yield* sql`select pg_notify('channel_999', 'last'), pg_notify('channel_0', 'first')`
        expect([yield* Queue.take(queues[0]!), yield* Queue.take(queues[999]!)]).toEqual([
          "first",
          "last"
        ])
      }).pipe(Effect.scoped, Effect.provide(layerPoolOfOne))
  )

  it.live("a notification arrives when its transaction commits, and never after a rollback", () =>
    Effect.gen(function* () {
      const source = yield* NotificationSource
      const sql = yield* PgClient.PgClient
      const queue = yield* listenTo(source, "orders")
      yield* sql
        .withTransaction(Effect.andThen(source.notify("orders", "rolled back"), Effect.fail("no")))
        .pipe(Effect.ignore)
      yield* sql.withTransaction(
        Effect.gen(function* () {
          yield* source.notify("orders", "committed")
          // A notification of another session overtakes, because the transaction is still open.
          yield* execute((yield* TestDatabase).url, "select pg_notify('orders', 'overtakes')")
        })
      )
      expect(yield* Queue.takeN(queue, 2)).toEqual(["overtakes", "committed"])
    }).pipe(Effect.scoped, Effect.provide(layer))
  )

  it.live("a channel name over 63 bytes is rejected, and other channels go on", () =>
    Effect.gen(function* () {
      const source = yield* NotificationSource
      const sql = yield* PgClient.PgClient
      const queue = yield* listenTo(source, "orders")
      const error = yield* Effect.flip(listenTo(source, "x".repeat(64)))
      expect(error.message).toContain("64 bytes")
      yield* sql`select pg_notify('orders', 'still here')`
      expect(yield* Queue.take(queue)).toBe("still here")
    }).pipe(Effect.scoped, Effect.provide(layer))
  )

  it.live(
    "the source fails at start when its links receive no notifications, and sends no heartbeat before",
    () =>
      Effect.gen(function* () {
        // The pool sends to one database and the link listens on another, as through a pooler: no echo.
        const [pool, elsewhere] = [yield* database, yield* database]
        let statements = 0
        const through = yield* databaseHop(
          elsewhere.url,
          statementsOf(() => statements++)
        )
        const error = yield* Layer.build(
          PgNotificationSource.layer({ listenUrl: Redacted.make(through.url) }).pipe(
            Layer.provide(PgClient.layer({ url: Redacted.make(pool.url) }))
          )
        ).pipe(Effect.flip)
        expect(error).toMatchObject({ _tag: "ListenNotDelivered", waited: 2000 })
        expect((error as Error).message).toContain("listenUrl")
        // A LISTEN of each link. A heartbeat beside the NOTIFY may bring it along through a pooler.
        expect(statements).toBe(leastMisses)
      }).pipe(Effect.scoped)
  )

  it.live("the source reconnects after a database restart, and sends the loss", () =>
    Effect.gen(function* () {
      const postgres = yield* ownServer()
      const context = yield* Layer.build(
        PgNotificationSource.layer(quick).pipe(
          Layer.provide(PgClient.layer({ url: Redacted.make(postgres.url) }))
        )
      )
      yield* Effect.gen(function* () {
        const source = yield* NotificationSource
        const queue = yield* listenTo(source, "orders")
        const down = yield* Effect.forkChild(
          NotificationSource.use((source) => waitFor(source, "down")),
          { startImmediately: true }
        )
        yield* postgres.restart
        yield* Fiber.join(down)
        expect(yield* Queue.take(queue)).toBe(lost)
        yield* execute(postgres.url, "select pg_notify('orders', 'after')")
        expect(yield* Queue.take(queue)).toBe("after")
      }).pipe(Effect.provideContext(context))
    }).pipe(Effect.scoped)
  )

  it.live("the source notices the end of its session at once, even listening to nothing", () =>
    Effect.gen(function* () {
      const { url } = yield* database
      const context = yield* Layer.build(
        PgNotificationSource.layer({ ...quick, heartbeatInterval: "1 hour" }).pipe(
          Layer.provide(PgClient.layer({ url: Redacted.make(url) }))
        )
      )
      yield* Effect.gen(function* () {
        const down = yield* Effect.forkChild(
          NotificationSource.use((source) => waitFor(source, "down")),
          { startImmediately: true }
        )
        yield* execute(url, terminateLinks)
        yield* Fiber.join(down)
        yield* NotificationSource.use((source) => waitFor(source, "up"))
      }).pipe(Effect.provideContext(context))
    }).pipe(Effect.scoped)
  )

  it.live("a source that was healthy reconnects at once after a loss, despite its backoff", () =>
    Effect.gen(function* () {
      const { url } = yield* database
      const context = yield* Layer.build(
        PgNotificationSource.layer({
          heartbeatInterval: "1 hour",
          backoff: { initial: "1 hour", cap: "1 hour", resetAfter: 20, atOnceAfter: 20 }
        }).pipe(Layer.provide(PgClient.layer({ url: Redacted.make(url) })))
      )
      yield* Effect.gen(function* () {
        yield* NotificationSource.use((source) => waitFor(source, "up"))
        for (let loss = 0; loss < 3; loss++) {
          const healthy = performance.now() + 50
          yield* Effect.repeat(execute(url, "select 1"), {
            until: () => performance.now() > healthy
          })
          const down = yield* Effect.forkChild(
            NotificationSource.use((source) => waitFor(source, "down")),
            { startImmediately: true }
          )
          yield* execute(url, terminateLinks)
          yield* Fiber.join(down)
          yield* NotificationSource.use((source) => waitFor(source, "up"))
        }
      }).pipe(Effect.provideContext(context))
    }).pipe(Effect.scoped)
  )

  it.live(
    "the source opens another session when the network goes silent during its LISTEN statement",
    () =>
      Effect.gen(function* () {
        const { url } = yield* database
        const gate = yield* proxy(new URL(url))
        const context = yield* Layer.build(
          PgNotificationSource.layer({ ...quick, heartbeatTimeout: "200 millis" }).pipe(
            Layer.provide(PgClient.layer({ url: Redacted.make(gate.url) }))
          )
        )
        yield* Effect.gen(function* () {
          const source = yield* NotificationSource
          const queue = yield* listenTo(source, "orders")
          const down = yield* Effect.forkChild(
            NotificationSource.use((source) => waitFor(source, "down")),
            { startImmediately: true }
          )
          gate.silenceAt("LISTEN")
          yield* execute(url, terminateLinks)
          yield* Fiber.join(down)
          expect(yield* Queue.take(queue)).toBe(lost)
          yield* execute(url, "select pg_notify('orders', 'after')")
          expect(yield* Queue.take(queue)).toBe("after")
          expect(gate.silenced()).toBe(1)
        }).pipe(Effect.provideContext(context))
      }).pipe(Effect.scoped)
  )

  it.live("the source keeps a link with a heartbeat late behind 200 KB of notifications", () =>
    Effect.gen(function* () {
      const { url } = yield* database
      const gate = yield* proxy(new URL(url))
      const context = yield* Layer.build(
        PgNotificationSource.layer({
          ...quick,
          heartbeatInterval: "20 millis",
          heartbeatTimeout: "150 millis"
        }).pipe(Layer.provide(PgClient.layer({ url: Redacted.make(gate.url) })))
      )
      yield* Effect.gen(function* () {
        const source = yield* NotificationSource
        const queue = yield* listenTo(source, "orders")
        // 200 KB at 4 KB every 10 ms take more than three times the heartbeat timeout.
        gate.trickle(4096, 10)
        const total = 100
        yield* execute(
          url,
          `select pg_notify('orders', n || repeat('x', 2000)) from generate_series(1, ${total}) n`
        )
        const told = yield* Queue.takeN(queue, total)
        expect(told.map((payload) => parseInt(String(payload)))).toEqual(
          Array.from({ length: total }, (_, n) => n + 1)
        )
      }).pipe(Effect.provideContext(context))
    }).pipe(Effect.scoped)
  )

  it.live("the source keeps its link while its process is blocked under 100,000 messages", () =>
    Effect.gen(function* () {
      const { url } = yield* database
      const [timeout, blocked] = [200, 250]
      const context = yield* Layer.build(
        PgNotificationSource.layer({
          ...quick,
          heartbeatInterval: 20,
          heartbeatTimeout: timeout
        }).pipe(Layer.provide(PgClient.layer({ url: Redacted.make(url) })))
      )
      yield* Effect.gen(function* () {
        const source = yield* NotificationSource
        const states: Array<SourceState> = []
        yield* SubscriptionRef.changes(source.state).pipe(
          Stream.runForEach((state) => Effect.sync(() => states.push(state))),
          Effect.forkScoped({ startImmediately: true })
        )
        const waiting = yield* listenTo(source, "orders")
        // While nothing arrives, only heartbeats prove the link alive: some are under way.
        for (let turn = 0; turn < 12; turn++) {
          if (turn % 2 === 0) block(blocked)
          yield* Effect.yieldNow
        }
        const total = 100_000
        // 100 MB, of which the kernel buffers a few: the rest stays with PostgreSQL.
        yield* Effect.forkChild(
          execute(
            url,
            `select pg_notify('orders', n || repeat('x', 1000)) from generate_series(1, ${total}) n`
          )
        )
        let arrived = 0
        let most = 0
        let wrong: Heard | undefined
        for (let next = 20_000; arrived < total && wrong === undefined;) {
          const some = yield* Queue.takeAll(waiting)
          most = Math.max(most, some.length)
          const before = arrived
          wrong = some.find((heard, n) => parseInt(String(heard)) !== before + n + 1)
          arrived += some.length
          if (arrived < next) continue
          block(blocked)
          next += 20_000
        }
        expect({ arrived, wrong, states }).toEqual({
          arrived: total,
          wrong: undefined,
          states: ["up"]
        })
        // Notifications of 1,000 bytes. The source bounds nothing, but holds nothing back: a turn of Node's
        // event loop reads at most 32 times 64 KiB of one socket, and a fiber may wake a turn late.
        expect(most).toBeLessThanOrEqual((2 * 32 * 64 * 1024) / 1000)
      }).pipe(Effect.provideContext(context))
    }).pipe(Effect.scoped)
  )

  it.live("the source retries while the database is away, and listen waits for it", () =>
    Effect.gen(function* () {
      const { url } = yield* database
      const gate = yield* proxy(new URL(url))
      gate.pass(false)
      const impatient = { backoff: { initial: 1, cap: 2, resetAfter: 30_000 } }
      const context = yield* Layer.build(
        PgNotificationSource.layer(impatient).pipe(
          Layer.provide(PgClient.layer({ url: Redacted.make(gate.url) }))
        )
      )
      yield* Effect.gen(function* () {
        const source = yield* NotificationSource
        const listening = yield* Effect.forkChild(listenTo(source, "orders"), {
          startImmediately: true
        })
        yield* Effect.promise(() => gate.refused(300))
        expect(listening.pollUnsafe()).toBeUndefined()
        gate.pass(true)
        const queue = yield* Fiber.join(listening)
        yield* execute(url, "select pg_notify('orders', 'x')")
        expect(yield* Queue.take(queue)).toBe("x")
      }).pipe(Effect.provideContext(context))
    }).pipe(Effect.scoped)
  )

  it.live("the source notices a silent network, and closes in 2 s without waiting for it", () =>
    Effect.gen(function* () {
      const { url } = yield* database
      const gate = yield* proxy(new URL(url))
      const scopeClosed = yield* Effect.gen(function* () {
        const context = yield* Layer.build(
          PgNotificationSource.layer({
            ...quick,
            heartbeatInterval: "200 millis",
            heartbeatTimeout: "100 millis"
          }).pipe(Layer.provide(PgClient.layer({ url: Redacted.make(gate.url) })))
        )
        return yield* Effect.gen(function* () {
          const source = yield* NotificationSource
          const queue = yield* listenTo(source, "orders")
          gate.silence()
          yield* NotificationSource.use((source) => waitFor(source, "down"))
          gate.pass(true)
          expect(yield* Queue.take(queue)).toBe(lost)
          yield* execute(url, "select pg_notify('orders', 'after')")
          expect(yield* Queue.take(queue)).toBe("after")
          gate.silence()
          return performance.now()
        }).pipe(Effect.provideContext(context))
      }).pipe(Effect.scoped)
      // A cancelled query would wait 5 s for the silent server, and an UNLISTEN for ever.
      expect(performance.now() - scopeClosed).toBeLessThan(2000)
    }).pipe(Effect.scoped)
  )
})

/** Blocks the whole process, as a long computation does. */
const block = (millis: number): void => {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, millis)
}

/** A TCP proxy in front of PostgreSQL that can reject connections or drop all bytes. */
const proxy = (upstream: URL) =>
  Effect.acquireRelease(
    Effect.callback<{
      readonly url: string
      readonly pass: (yes: boolean) => void
      readonly silence: () => void
      /** Drops all bytes of the next session that sends this word, from then on. */
      readonly silenceAt: (word: string) => void
      readonly silenced: () => number
      /** From now on the database's answers pass in pieces of `bytes`, one every `millis` ms. */
      readonly trickle: (bytes: number, millis: number) => void
      readonly refused: (times: number) => Promise<void>
      readonly close: () => void
    }>((resume) => {
      const target = address({ url: Redacted.make(upstream.href) })
      const pairs = new Set<readonly [Net.Socket, Net.Socket]>()
      let passing = true
      let refusals = 0
      let silenced = 0
      let fatal: string | undefined
      let onRefused = () => {}
      const server = Net.createServer((client) => {
        client.on("error", () => {})
        if (!passing) {
          client.destroy()
          refusals++
          onRefused()
          return
        }
        const onward = Net.connect(target)
        onward.on("error", () => {})
        client.on("data", (data: Buffer) => {
          if (fatal === undefined || !data.includes(fatal)) return
          fatal = undefined
          silenced++
          client.unpipe(onward)
          onward.unpipe(client)
          client.resume()
          onward.resume()
        })
        client.pipe(onward)
        onward.pipe(client)
        const pair = [client, onward] as const
        pairs.add(pair)
        client.on("close", () => pairs.delete(pair))
      })
      server.listen(0, "127.0.0.1", () => {
        const url = new URL(upstream)
        url.searchParams.set("host", "127.0.0.1")
        url.searchParams.set("port", String((server.address() as Net.AddressInfo).port))
        resume(
          Effect.succeed({
            url: url.href,
            pass: (yes) => {
              passing = yes
            },
            silence: () => {
              for (const [client, onward] of pairs) {
                client.unpipe(onward)
                onward.unpipe(client)
                client.resume()
                onward.resume()
              }
            },
            silenceAt: (word) => {
              fatal = word
            },
            silenced: () => silenced,
            trickle: (bytes, millis) => {
              for (const [client, onward] of pairs) {
                let waiting = Buffer.alloc(0)
                onward.unpipe(client)
                onward.on("data", (data: Buffer) => {
                  waiting = Buffer.concat([waiting, data])
                })
                onward.resume()
                const timer = setInterval(() => {
                  client.write(waiting.subarray(0, bytes))
                  waiting = waiting.subarray(bytes)
                }, millis)
                client.once("close", () => clearInterval(timer))
              }
            },
            refused: (times) =>
              new Promise((resolve) => {
                onRefused = () => {
                  if (refusals >= times) resolve()
                }
                onRefused()
              }),
            close: () => {
              for (const [client, onward] of pairs) {
                client.destroy()
                onward.destroy()
              }
              server.close()
            }
          })
        )
      })
    }),
    ({ close }) => Effect.sync(close)
  )
