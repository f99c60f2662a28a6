/** Runs the guides about doors: sign-in, health checks, Vite and Next.js. */
import { PgClient } from "@effect/sql-pg"
import { NodeHttpServer } from "@effect/platform-node"
import { describe, expect, it } from "@effect/vitest"
import { ConfigProvider, Context, Effect, Layer, Schedule } from "effect"
import { HttpRouter } from "effect/http"
import { RealtimeServer as PlainServer } from "effect-realtime/node"
import { QueryResults, RealtimeServer } from "effect-realtime/server"
import * as MemorySource from "../../src/server/MemorySource.ts"
import * as PgNodeBus from "../../src/server/PgNodeBus.ts"
import * as PgNotificationSource from "../../src/server/PgNotificationSource.ts"
import * as Realtime from "../../src/server/Realtime.ts"
import { createServer, type Server } from "node:http"
import type { AddressInfo } from "node:net"
import { createServer as createVite } from "vite"
import { WebSocketServer } from "ws"
import { Notices, OrderUpdates } from "../../examples/channels.ts"
import { Health } from "../../examples/operations/health.ts"
import { serve } from "../../examples/next/serve.ts"
import { issue } from "../../examples/security/issue.ts"
import { door as rules } from "../../examples/security/rules.ts"
import { Door as Sessions } from "../../examples/security/sessions.ts"
import { Door as SignOutDoor, signOut } from "../../examples/security/signOut.ts"
import { Door as Tokens } from "../../examples/security/tokens.ts"
import { App as VolatileApp } from "../../examples/volatile/server.ts"
import { Address, address } from "../support/app.ts"
import { database, layerDatabase } from "../support/database.ts"
import { connect, greet, type Wire } from "../support/wire.ts"
import { layerInstalled, layerReaderOnly } from "../server/support/durable.ts"

const hello = (wire: Wire, token?: string) => {
  wire.send({ type: "hello", version: 1, token })
  return wire.next("welcome", "error")
}

const ask = (wire: Wire, id: number, channel: string) => {
  wire.send({ type: "subscribe", id, channel })
  return wire.next("subscribed", "error")
}

const withToken = (token: string) => (ws: string) =>
  Effect.flatMap(connect(ws), (wire) => Effect.as(hello(wire, token), wire))

const withCookie = (name: string, value: string) => (ws: string) =>
  Effect.flatMap(connect(ws, { headers: { cookie: `theme=dark; ${name}=${value}` } }), (wire) =>
    Effect.as(hello(wire), wire)
  )

const quiet = { disableListenLog: true, disableLogger: true }

/** The layers of an app, with the source in memory. */
const beneath = NodeHttpServer.layer(createServer, { port: 0, host: "127.0.0.1" }).pipe(
  Layer.provideMerge(Realtime.layer()),
  Layer.provideMerge(MemorySource.layer)
)

const listening = (server: Server) =>
  Effect.callback<number>((resume) => {
    server.listen(0, "127.0.0.1", () =>
      resume(Effect.succeed((server.address() as AddressInfo).port))
    )
  })

describe("examples/security", () => {
  const people = PgClient.PgClient.use((sql) =>
    Effect.andThen(
      sql`create table sessions (id text primary key, user_id text, queries text[], expires timestamptz)`,
      sql`insert into sessions values ('s1', 'ada', '{42}', now() + interval '1 hour'),
        ('old', 'bob', '{}', now() - interval '1 second')`
    )
  )
  const sessions = HttpRouter.serve(Sessions, quiet).pipe(
    Layer.provideMerge(address),
    Layer.provideMerge(beneath),
    Layer.provide(Layer.effectDiscard(people)),
    Layer.provide(layerDatabase)
  )

  it.live("sessions.ts: accepts a session id in a cookie or token, and only own reports", () =>
    Effect.gen(function* () {
      const { ws } = yield* Address
      for (const enter of [withCookie("session", "s1"), withToken("s1")]) {
        const wire = yield* enter(ws)
        expect(wire.frames[0]).toMatchObject({ type: "welcome", expires: expect.any(Number) })
        expect(yield* ask(wire, 1, "query_results_42")).toMatchObject({ type: "subscribed" })
        const refused = { type: "error", code: "channel/forbidden" }
        expect(yield* ask(wire, 2, "query_results_43")).toMatchObject(refused)
      }
    }).pipe(Effect.scoped, Effect.provide(sessions))
  )

  it.live.each([
    ["no session", (ws: string) => Effect.tap(connect(ws), hello), "auth/required"],
    ["one that has ended", withCookie("session", "old"), "auth/invalid"],
    ["an invented one", withToken("s2"), "auth/invalid"]
  ] as const)("sessions.ts: rejects a client that has %s", ([, enter, code]) =>
    Effect.gen(function* () {
      const wire = yield* enter((yield* Address).ws)
      expect(wire.frames[0]).toMatchObject({ type: "error", code })
      yield* wire.closed
    }).pipe(Effect.scoped, Effect.provide(sessions))
  )

  it.live("rules.ts: only members of a room write to it, each under their own name", () =>
    Effect.gen(function* () {
      const ada = yield* withToken("ada")((yield* Address).ws)
      expect(yield* ask(ada, 1, "room_lobby")).toMatchObject({ type: "subscribed" })
      expect(yield* ask(ada, 2, "room_attic")).toMatchObject({ code: "channel/forbidden" })
      expect(yield* ask(ada, 3, OrderUpdates.name)).toMatchObject({ type: "subscribed" })
      const publish = (id: number, channel: string) => {
        const data = { sender: "bob", text: "hi" }
        ada.send({ type: "publish", id, channel, key: String(id), data })
        return ada.next("published", "error")
      }
      expect(yield* publish(4, "room_lobby")).toMatchObject({ type: "published" })
      const { events } = yield* ada.next("events")
      expect(events.map(({ data }) => data)).toEqual([{ sender: "Ada", text: "hi" }])
      expect(yield* publish(5, "room_attic")).toMatchObject({
        code: "publish/forbidden",
        message: "Join the room before you write."
      })
      const eve = yield* withToken("eve")((yield* Address).ws)
      expect(eve.frames[0]).toMatchObject({ type: "error", code: "auth/invalid" })
    }).pipe(
      Effect.scoped,
      Effect.provide(
        HttpRouter.serve(
          rules((token) =>
            Effect.succeed(token === "ada" ? { id: "1", name: "Ada", rooms: ["lobby"] } : undefined)
          ),
          quiet
        ).pipe(Layer.provideMerge(address), Layer.provideMerge(beneath))
      )
    )
  )

  const environment = ConfigProvider.layer(
    ConfigProvider.fromUnknown({ TOKEN_SECRET: "0123456789abcdef0123456789abcdef" })
  )

  it.live("tokens.ts: accepts the API's token in hello and in a cookie", () =>
    Effect.gen(function* () {
      const { ws } = yield* Address
      const token = yield* issue("ada")
      const mine = QueryResults.newId("ada")
      for (const enter of [withToken(token), withCookie("token", token)]) {
        const wire = yield* enter(ws)
        expect(yield* ask(wire, 1, `query_results_${mine}`)).toMatchObject({ type: "subscribed" })
        const refused = { type: "error", code: "channel/forbidden" }
        expect(yield* ask(wire, 2, `query_results_${QueryResults.newId("bob")}`)).toMatchObject(
          refused
        )
      }
      const forged = yield* withToken(`${token.slice(0, -4)}AAAA`)(ws)
      expect(forged.frames[0]).toMatchObject({ type: "error", code: "auth/invalid" })
      const elsewhere = yield* Effect.flip(
        connect(ws, { headers: { origin: "https://evil.example.com" } })
      )
      expect(elsewhere.status).toBe(403)
    }).pipe(
      Effect.scoped,
      Effect.provide(
        HttpRouter.serve(Tokens, quiet).pipe(
          Layer.provideMerge(address),
          Layer.provideMerge(beneath),
          Layer.provideMerge(environment)
        )
      )
    )
  )

  it.live(
    "signOut.ts: ends the sessions of one user on two nodes, and refuses the token on both",
    () =>
      Effect.gen(function* () {
        const node = (name: string) =>
          Layer.build(
            Layer.fresh(
              HttpRouter.serve(SignOutDoor, quiet).pipe(
                Layer.provideMerge(address),
                Layer.provideMerge(
                  NodeHttpServer.layer(createServer, { port: 0, host: "127.0.0.1" })
                ),
                Layer.provide(PgNodeBus.layer({ name })),
                Layer.provide(Realtime.layer()),
                Layer.provide(layerReaderOnly()),
                Layer.provide(PgNotificationSource.layer({ selfTest: false })),
                Layer.provide(environment)
              )
            )
          )
        const nodes = [yield* node("one"), yield* node("two")] as const
        const urls = nodes.map((one) => Context.get(one, Address).ws)
        const token = yield* Effect.provide(issue("ada"), environment)
        const others = yield* Effect.provide(issue("bob"), environment)
        const ada = yield* Effect.forEach(urls, withToken(token))
        const bob = yield* Effect.forEach(urls, withToken(others))
        // The nodes know each other after a heartbeat.
        const stats = Context.get(nodes[0], RealtimeServer.RealtimeServer).stats
        yield* Effect.repeat(stats, {
          until: ({ answered }) => answered.length === 2,
          schedule: Schedule.spaced(50)
        })
        const reached = yield* Effect.provide(signOut("ada"), nodes[0])
        expect(reached).toMatchObject({
          answered: ["one", "two"],
          missing: []
        })
        expect(yield* Effect.forEach(ada, ({ closed }) => closed)).toEqual([4101, 4101])
        const again = yield* Effect.forEach(urls, (ws) =>
          Effect.flatMap(connect(ws), (wire) => {
            wire.send({ type: "hello", version: 1, token })
            return wire.closed
          })
        )
        expect(again).toEqual([4101, 4101])
        for (const wire of bob) {
          expect(yield* ask(wire, 1, OrderUpdates.name)).toMatchObject({ type: "subscribed" })
        }
      }).pipe(Effect.scoped, Effect.provide(layerInstalled()))
  )
})

describe("examples/operations", () => {
  it.live("health.ts: /live always answers 200, /ready only while the link is up", () =>
    Effect.gen(function* () {
      const { http, ws } = yield* Address
      const get = (path: string) => Effect.promise(() => fetch(`${http}${path}`))
      expect((yield* get("/live")).status).toBe(200)
      expect((yield* get("/ready")).status).toBe(200)
      yield* greet(ws)
      // The door counts its sessions every second.
      const metrics = Effect.promise(() => fetch(`${http}/metrics`).then((answer) => answer.text()))
      yield* Effect.repeat(metrics, { until: (text) => /^effect_realtime_sessions 1$/m.test(text) })
      const source = yield* MemorySource.MemorySource
      yield* source.lose
      expect((yield* get("/ready")).status).toBe(503)
      expect((yield* get("/live")).status).toBe(200)
    }).pipe(
      Effect.scoped,
      Effect.provide(
        HttpRouter.serve(
          Health.pipe(
            Layer.provideMerge(
              RealtimeServer.layer({ channels: [Notices], authorize: RealtimeServer.allowAll })
            )
          ),
          quiet
        ).pipe(Layer.provideMerge(address), Layer.provideMerge(beneath))
      )
    )
  )
})

describe("examples/react", () => {
  const options: PlainServer.Options = { channels: [Notices], authorize: () => true }
  const closing = (server: Server) =>
    Effect.promise(
      () =>
        new Promise<void>((done) => {
          server.closeAllConnections()
          server.close(() => done())
        })
    )

  it.live("vite.config.ts: Vite forwards the page's socket to the server", () =>
    Effect.gen(function* () {
      const { url } = yield* database
      // The configured port may be in use on this machine.
      const http = yield* Effect.acquireRelease(
        Effect.sync(() => createServer()),
        closing
      )
      const realtime = yield* Effect.acquireRelease(
        Effect.sync(() => new PlainServer(http, url, options)),
        (server) => Effect.promise(() => server.close())
      )
      yield* Effect.promise(() => realtime.ready)
      const port = yield* listening(http)
      const { default: config } = yield* Effect.promise(
        () => import("../../examples/react/vite.config.ts")
      )
      const proxy = config.server!.proxy!["/realtime"] as object
      const vite = yield* Effect.acquireRelease(
        Effect.promise(() =>
          createVite({
            ...config,
            configFile: false,
            logLevel: "silent",
            server: {
              host: "127.0.0.1",
              port: 0,
              ws: false,
              proxy: { "/realtime": { ...proxy, target: `http://127.0.0.1:${port}` } }
            }
          }).then((server) => server.listen())
        ),
        (server) => Effect.promise(() => server.close())
      )
      const page = (vite.httpServer!.address() as AddressInfo).port
      const headers = { origin: `http://127.0.0.1:${page}` }
      const wire = yield* greet(`ws://127.0.0.1:${page}/realtime`, { headers })
      expect(yield* ask(wire, 1, Notices.name)).toMatchObject({ type: "subscribed" })
    }).pipe(Effect.scoped)
  )

  /** Acts like Next.js: it answers the sockets of its `httpServer`, and closes those that match a page. */
  const next =
    (theirs: WebSocketServer) =>
    ({ httpServer }: { readonly httpServer: Server }) => ({
      prepare: () => {
        httpServer.on("upgrade", (request, socket, head) => {
          if (request.url === "/_next/hmr") theirs.handleUpgrade(request, socket, head, () => {})
          else setImmediate(() => socket.end())
        })
        return Promise.resolve()
      },
      getRequestHandler: () => (_: unknown, response: { end: (text: string) => void }) =>
        response.end("a page")
    })

  it.live("serve.ts: serves pages, the sockets of Next.js and those of the door on one port", () =>
    Effect.gen(function* () {
      const { url } = yield* database
      const theirs = new WebSocketServer({ noServer: true })
      const { http, realtime } = yield* Effect.acquireRelease(
        Effect.promise(() => serve(next(theirs), url, options)),
        ({ http, realtime }) =>
          Effect.andThen(
            Effect.promise(() => realtime.close()),
            closing(http)
          )
      )
      yield* Effect.promise(() => realtime.ready)
      const port = yield* listening(http)
      const page = yield* Effect.promise(() => fetch(`http://127.0.0.1:${port}/orders`))
      expect(yield* Effect.promise(() => page.text())).toBe("a page")
      const wire = yield* greet(`ws://127.0.0.1:${port}/realtime`)
      expect(yield* ask(wire, 1, Notices.name)).toMatchObject({ type: "subscribed" })
      const hot = yield* connect(`ws://127.0.0.1:${port}/_next/hmr`, { protocols: [] })
      expect(hot.socket.readyState).toBe(1)
    }).pipe(Effect.scoped)
  )
})

describe("examples/volatile", () => {
  it.live("server.ts serves its channel without a database", () =>
    Effect.gen(function* () {
      const { ws } = yield* Address
      const [ann, bob] = [yield* greet(ws), yield* greet(ws)]
      expect((yield* ask(bob, 1, "typing_a")).type).toBe("subscribed")
      ann.send({ type: "publish", id: 1, channel: "typing_a", data: { user: "ann" } })
      expect((yield* ann.next("published", "error")).type).toBe("published")
      expect((yield* bob.next("events")).events.map(({ data }) => data)).toEqual([{ user: "ann" }])
    }).pipe(
      Effect.scoped,
      Effect.provide(
        Layer.merge(VolatileApp, address).pipe(
          Layer.provideMerge(NodeHttpServer.layer(createServer, { port: 0, host: "127.0.0.1" }))
        )
      )
    )
  )
})
