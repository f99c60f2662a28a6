/**
 * The answers for a balancer and for what restarts a process, while PostgreSQL, the bus or NATS is away: at the start,
 * later, and while the node drains. A database that is away restarts no node.
 */
import { PgClient } from "@effect/sql-pg"
import { NodeHttpServer } from "@effect/platform-node"
import { describe, expect, it } from "@effect/vitest"
import { Context, Effect, Layer, Logger, Redacted, Schema, SubscriptionRef } from "effect"
import * as HttpRouter from "effect/http/HttpRouter"
import { createServer } from "node:http"
import { health as healthOf } from "../../examples/operations/plain.ts"
import * as Channel from "../../src/Channel.ts"
import * as NatsBus from "../../src/nats/NatsBus.ts"
import * as NatsConnection from "../../src/nats/NatsConnection.ts"
import { RealtimeServer as PlainServer } from "../../src/node/RealtimeServer.ts"
import type { NotificationSource } from "../../src/server/NotificationSource.ts"
import { NodeBus } from "../../src/server/NodeBus.ts"
import { address as pathTo } from "../../src/server/internal/link/pgLink.ts"
import * as OutboxReader from "../../src/server/OutboxReader.ts"
import * as PgNodeBus from "../../src/server/PgNodeBus.ts"
import * as PgNotificationSource from "../../src/server/PgNotificationSource.ts"
import * as Realtime from "../../src/server/Realtime.ts"
import * as RealtimeServer from "../../src/server/RealtimeServer.ts"
import { allowAll } from "../../src/server/ServerOptions.ts"
import { Address, address } from "../support/app.ts"
import { installedDatabase } from "../support/database.ts"
import { freePort } from "../support/freePort.ts"
import { databaseHop, hop } from "../support/hop.ts"
import { addressOf, httpServer } from "../support/httpServer.ts"
import { executablePath, natsServer } from "../support/natsServer.ts"
import { until } from "../support/until.ts"
import { greet } from "../support/wire.ts"
import { apart, untilHolds } from "./support/series.ts"

const Live = Channel.make("live", Schema.Unknown)
const Kept = Channel.make("kept", Schema.Unknown, { delivery: "durable" })
const Moves = Channel.make("moves", Schema.Unknown, { delivery: "volatile", publish: true })
const channels = [Live, Kept, Moves]

const backoff = { initial: 10, cap: 50, resetAfter: 30_000 }
const beat = { heartbeat: "200 millis", heartbeatTimeout: "200 millis" } as const

/**
 * A node with its database at that port, and the answers of its health. `direct`: the way of its link and of its
 * reader, where it is another one.
 */
const node = (
  database: string,
  bus: Layer.Layer<NodeBus, unknown, NotificationSource | PgClient.PgClient>,
  direct = database
) =>
  Layer.build(
    HttpRouter.serve(
      RealtimeServer.layerHealth({ path: "/check" }).pipe(
        Layer.provideMerge(RealtimeServer.layer({ channels, authorize: allowAll }))
      ),
      { disableListenLog: true, disableLogger: true }
    ).pipe(
      Layer.provideMerge(address),
      Layer.provideMerge(NodeHttpServer.layer(createServer, { port: 0, host: "127.0.0.1" })),
      Layer.provide(Realtime.layer()),
      Layer.provideMerge(bus),
      Layer.provide([
        PgNotificationSource.layer({ backoff, ...beat, listenUrl: Redacted.make(direct) }),
        OutboxReader.layer({ backoff, ...beat, readUrl: Redacted.make(direct) })
      ]),
      Layer.provide(PgClient.layer({ url: Redacted.make(database), connectTimeout: "1 second" }))
    )
  ).pipe(
    Effect.map((context) => {
      const { http, ws } = Context.get(context, Address)
      const { drain } = Context.get(context, RealtimeServer.RealtimeServer)
      const get = (path: string) =>
        Effect.promise(async () => {
          const answer = await fetch(`${http}${path}`)
          return [answer.status, await answer.json()] as const
        })
      /** The statuses of ready and of live. */
      const health = Effect.map(Effect.all([get("/check"), get("/check/live")]), (answers) =>
        answers.map(([status]) => status)
      )
      const becomes = (...statuses: ReadonlyArray<number>) =>
        Effect.repeat(Effect.delay(health, 10), {
          until: (now) => String(now) === String(statuses)
        })
      return { becomes, drain, get, health, ws }
    })
  )

const upOf = (bus: NodeBus["Service"]) => SubscriptionRef.getUnsafe(bus.state) === "up"

const ready = [200, 200]
const away = [503, 200]

/** Over the port of this machine, whatever the way of the test database is. */
const onPort = (url: string, port: number) => {
  const there = Object.assign(new URL(url), { hostname: "127.0.0.1", port: String(port) })
  there.searchParams.delete("host")
  there.searchParams.delete("port")
  return there.href
}

describe("The health of a node", () => {
  it.live(
    "is live and not ready where PostgreSQL is away at the start, and ready once it is there",
    () =>
      Effect.gen(function* () {
        const { url } = yield* installedDatabase
        const port = yield* freePort
        const { becomes, get, health } = yield* node(onPort(url, port), PgNodeBus.layer())
        expect(yield* health).toEqual(away)
        expect(yield* get("/check")).toEqual([503, { status: "not ready" }])
        expect(yield* get("/check/live")).toEqual([200, { status: "live" }])
        // PostgreSQL begins to answer there.
        yield* hop(pathTo({ url: Redacted.make(url) }), undefined, port)
        yield* becomes(...ready)
        expect(yield* get("/check")).toEqual([200, { status: "ready" }])
      }).pipe(Effect.scoped)
  )

  it.live("is live and not ready while PostgreSQL is away, drains without it, and stays live", () =>
    Effect.gen(function* () {
      const { url } = yield* installedDatabase
      const way = yield* databaseHop(url)
      const { becomes, drain, health, ws } = yield* node(way.url, PgNodeBus.layer())
      yield* becomes(...ready)
      const wire = yield* greet(ws)
      way.silence()
      way.cut()
      yield* becomes(...away)
      way.heal()
      yield* becomes(...ready)
      way.silence()
      way.cut()
      yield* becomes(...away)
      yield* drain
      expect((yield* wire.next("bye")).type).toBe("bye")
      expect(yield* health).toEqual(away)
    }).pipe(Effect.scoped)
  )

  it.live("is not ready while it drains and after it, and live all the time", () =>
    Effect.gen(function* () {
      const { url } = yield* installedDatabase
      const { becomes, drain, health, ws } = yield* node(url, PgNodeBus.layer())
      yield* becomes(...ready)
      yield* greet(ws)
      const draining = yield* Effect.forkChild(drain, { startImmediately: true })
      expect(yield* health).toEqual(away)
      yield* draining.pipe((fiber) => until(() => fiber.pollUnsafe() !== undefined))
      expect(yield* health).toEqual(away)
    }).pipe(Effect.scoped)
  )

  it.live.skipIf(executablePath === undefined)(
    "is ready without NATS: at the start, when NATS is lost, and when it is back",
    () =>
      Effect.gen(function* () {
        const { url } = yield* installedDatabase
        const server = yield* natsServer()
        yield* server.stop
        let bus: NodeBus["Service"] | undefined
        const nats = NatsBus.layer().pipe(
          Layer.tap((context) => Effect.sync(() => (bus = Context.get(context, NodeBus)))),
          Layer.provide(
            NatsConnection.layer({
              servers: server.address,
              startWithout: true,
              backoff,
              heartbeatInterval: 100,
              heartbeatTimeout: 200
            })
          )
        )
        const { becomes, health } = yield* node(url, nats)
        yield* becomes(...ready)
        yield* server.start
        yield* until(() => bus !== undefined && upOf(bus))
        expect(yield* health).toEqual(ready)
        yield* server.stop
        yield* until(() => !upOf(bus!))
        expect(yield* health).toEqual(ready)
      }).pipe(Effect.scoped)
  )

  it.live(
    "of the class: it answers without PostgreSQL, is ready with it, and drains without it",
    () =>
      Effect.gen(function* () {
        const { url } = yield* installedDatabase
        const port = yield* freePort
        const http = yield* httpServer
        http.removeAllListeners("request")
        const server = yield* Effect.acquireRelease(
          Effect.sync(
            () =>
              new PlainServer(http, onPort(url, port), {
                channels,
                authorize: () => true
              })
          ),
          (one) => Effect.promise(() => one.close())
        )
        http.on("request", healthOf(server))
        const get = (path: string) =>
          Effect.promise(() => fetch(`http://${addressOf(http)}${path}`))
        const health = Effect.map(Effect.all([get("/health"), get("/health/live")]), (answers) =>
          answers.map(({ status }) => status)
        )
        const becomes = (expected: ReadonlyArray<number>) =>
          Effect.repeat(Effect.delay(health, 10), {
            until: (now) => String(now) === String(expected)
          })
        expect(yield* health).toEqual(away)
        const way = yield* hop(pathTo({ url: Redacted.make(url) }), undefined, port)
        yield* becomes(ready)
        way.silence()
        way.cut()
        yield* becomes(away)
        yield* Effect.promise(() => server.drain())
        expect(yield* health).toEqual(away)
      }).pipe(Effect.scoped)
  )
})

describe("While the bus alone is away", () => {
  const quick = { heartbeatInterval: 200, silentAfter: 600, batchWindow: 10 } as const

  /** The lines of the log that say that something is lost or back. */
  const logged = () => {
    const lines: Array<string> = []
    const layer = Logger.layer([
      Logger.make(({ logLevel, message }) => {
        if (logLevel === "Warn" || logLevel === "Info") {
          lines.push(`${logLevel} ${[message].flat().join(" ")}`)
        }
      })
    ])
    return { layer, of: (start: string) => lines.filter((line) => line.startsWith(start)) }
  }

  const present = { link_up: 1, reader_up: 1 }

  it.live("a node whose pool is away is ready, and says what the bus cannot do", () => {
    const { layer, of } = logged()
    return apart(
      Effect.gen(function* () {
        const { url } = yield* installedDatabase
        const way = yield* databaseHop(url)
        const { becomes, health } = yield* node(way.url, PgNodeBus.layer(quick), url)
        yield* becomes(...ready)
        yield* untilHolds({ ...present, bus_up: 1 })
        way.silence()
        way.cut()
        yield* untilHolds({ ...present, bus_up: 0, bus_nodes: 0 })
        expect(yield* health).toEqual(ready)
        expect(of("Warn The bus does not deliver")).toEqual([
          expect.stringMatching(
            /^Warn The bus does not deliver: this node cannot send its heartbeats: ./
          )
        ])
        expect(of("Warn The link")).toEqual([])
        expect(of("Warn The reader")).toEqual([])
        way.heal()
        yield* untilHolds({ ...present, bus_up: 1 })
        yield* until(() => of("Info The bus delivers").length > 0)
        expect(of("Info The bus delivers")).toHaveLength(1)
        expect(yield* health).toEqual(ready)
      }).pipe(Effect.scoped)
    ).pipe(Effect.provide(layer))
  })

  const nats = (server: { readonly address: string }, login = {}) =>
    NatsBus.layer(quick).pipe(
      Layer.provide(
        NatsConnection.layer({
          servers: server.address,
          backoff,
          heartbeatInterval: 100,
          heartbeatTimeout: 1000,
          ...login
        })
      )
    )

  it.live.skipIf(executablePath === undefined)(
    "a node without NATS is ready, and says so of both",
    () => {
      const { layer, of } = logged()
      return apart(
        Effect.gen(function* () {
          const { url } = yield* installedDatabase
          const server = yield* natsServer()
          const { becomes, health } = yield* node(url, nats(server))
          yield* becomes(...ready)
          yield* untilHolds({ ...present, bus_up: 1, nats_up: 1 })
          yield* server.stop
          yield* untilHolds({ ...present, bus_up: 0, nats_up: 0 })
          expect(yield* health).toEqual(ready)
          yield* until(() => of("Warn The bus").length > 0 && of("Warn The connection").length > 0)
          expect(of("Warn The bus")).toEqual([
            "Warn The bus does not deliver: its connection is down. The line about the link to PostgreSQL, or about NATS, says why"
          ])
          yield* server.start
          yield* untilHolds({ ...present, bus_up: 1, nats_up: 1, nats_reconnects_total: 1 })
          yield* until(() => of("Info The bus delivers").length > 0)
          for (const what of ["Warn The connection", "Info The connection", "Info The bus"]) {
            expect(of(what), what).toHaveLength(1)
          }
        }).pipe(Effect.scoped)
      ).pipe(Effect.provide(layer))
    }
  )

  it.live.skipIf(executablePath === undefined)(
    "a node whose account in NATS may hear nothing any more is ready, and says why",
    () => {
      const { layer, of } = logged()
      const users = (rights: string) =>
        `authorization { users = [{ user: "ann", password: "word"${rights} }] }`
      return apart(
        Effect.gen(function* () {
          const { url } = yield* installedDatabase
          const server = yield* natsServer(users(""))
          const login = { user: "ann", password: Redacted.make("word") }
          const { becomes, health } = yield* node(url, nats(server, login))
          yield* becomes(...ready)
          yield* untilHolds({ ...present, bus_up: 1, nats_up: 1 })
          yield* server.reload(users(', permissions: { subscribe: { deny: "effect_realtime.>" } }'))
          yield* untilHolds({ ...present, bus_up: 0, nats_up: 1 })
          expect(yield* health).toEqual(ready)
          const denied = "Warn The account of this node in NATS may not subscribe"
          yield* until(() => of(denied).length > 0)
          expect(of(denied)).toHaveLength(1)
          yield* until(() => of("Warn The bus does not deliver").length > 0)
          // On a slow machine the connection may be cut first, and a line with another reason begins otherwise.
          expect(of("Warn The bus does not deliver")[0]).toMatch(
            /deliver: it(?: has a connection, but|s connection is down\.) /
          )
          yield* server.reload(users(""))
          yield* untilHolds({ ...present, bus_up: 1, nats_up: 1 })
        }).pipe(Effect.scoped)
      ).pipe(Effect.provide(layer))
    }
  )
})
