import { describe, expect, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { request } from "node:http"
import { type AddressInfo, connect as tcp } from "node:net"
import { afterEach, vi } from "vitest"
import { WebSocketServer } from "ws"
import * as Channel from "../../src/Channel.ts"
import { RealtimeServer, RefusedToStart, ServerClosed } from "../../src/node/RealtimeServer.ts"
import { RuleRefused } from "../../src/server/Rule.ts"
import { allowAll, type IdentityKey, type Limits } from "../../src/server/ServerOptions.ts"
import { database, execute, installedDatabase } from "../support/database.ts"
import { databaseHop } from "../support/hop.ts"
import { tcpServer } from "../support/tcpServer.ts"
import { connect, greet } from "../support/wire.ts"
import { addressOf, httpServer } from "../support/httpServer.ts"

afterEach(() => {
  vi.unstubAllEnvs()
})

const MyChannel = Channel.make("my-channel", Schema.Unknown, { publish: true })
const Kept = Channel.make("kept", Schema.Int, { delivery: "durable" })
const open = { authorize: () => true }

/** A `node:http` server of an application, on a free port. */
const start = <I = undefined>(options?: RealtimeServer.Options<I> & IdentityKey<NoInfer<I>>) =>
  Effect.gen(function* () {
    const { url } = yield* database
    const http = yield* httpServer
    const server = yield* Effect.acquireRelease(
      Effect.sync(() => new RealtimeServer(http, url, options)),
      (server) => Effect.promise(() => server.close())
    )
    yield* Effect.promise(() => server.ready)
    return { http, server, databaseUrl: url, ws: `ws://${addressOf(http)}/realtime` }
  })

describe("The class RealtimeServer of ./node", () => {
  it.live("a server without options serves the three known kinds of channels, read-only", () =>
    Effect.gen(function* () {
      const { databaseUrl, ws } = yield* start()
      const wire = yield* greet(ws)
      const channels = ["system_notifications", "query_results_42", "table_updates_orders"]
      for (const [id, channel] of channels.entries()) {
        wire.send({ type: "subscribe", id, channel })
        expect((yield* wire.next("subscribed")).channel).toBe(channel)
      }
      yield* execute(
        databaseUrl,
        `select pg_notify('query_results_42', '{"status":"completed","data":[1]}')`
      )
      expect((yield* wire.next("events")).events[0]!.data).toEqual({
        status: "completed",
        data: [1]
      })
      wire.send({
        type: "publish",
        id: 9,
        channel: "system_notifications",
        key: "k",
        data: { type: "info", message: "x" }
      })
      expect((yield* wire.next("error")).code).toBe("publish/forbidden")
      wire.send({ type: "subscribe", id: 10, channel: "my-channel" })
      expect((yield* wire.next("error")).code).toBe("channel/unknown")
    })
  )

  it.live("a server serves its channels to the clients that authorize allows", () =>
    Effect.gen(function* () {
      const { server, ws } = yield* start({
        channels: [MyChannel, Channel.systemNotifications],
        authorize: async ({ action, channel }) => action === "publish" || channel === "my-channel"
      })
      const wire = yield* greet(ws)
      wire.send({ type: "subscribe", id: 1, channel: "my-channel" })
      yield* wire.next("subscribed")
      wire.send({ type: "subscribe", id: 2, channel: "system_notifications" })
      expect((yield* wire.next("error")).code).toBe("channel/forbidden")
      wire.send({ type: "publish", id: 3, channel: "my-channel", key: "k", data: { hello: 1 } })
      yield* wire.next("published")
      expect((yield* wire.next("events")).events[0]!.data).toEqual({ hello: 1 })
      yield* Effect.promise(() => server.publish(MyChannel, "from the server"))
      expect((yield* wire.next("events")).events[0]!.data).toBe("from the server")
    })
  )

  it.live("an authorize that rejects its Promise sends server/internal", () =>
    Effect.gen(function* () {
      const { ws } = yield* start({ authorize: () => Promise.reject(new Error("secret")) })
      const wire = yield* greet(ws)
      wire.send({ type: "subscribe", id: 1, channel: "system_notifications" })
      expect((yield* wire.next("error")).code).toBe("server/internal")
    })
  )

  it.live("rules decide about subscribing and publishing, also in production", () =>
    Effect.gen(function* () {
      vi.stubEnv("NODE_ENV", "production")
      const Room = Channel.family(
        "room_",
        Schema.String,
        Schema.Struct({ sender: Schema.String, text: Schema.String }),
        { publish: true }
      )
      const { ws } = yield* start({
        channels: [Room],
        authenticate: async ({ token = "" }) => ({ identity: token }),
        rules: ({ onPublish, onSubscribe }) => [
          onSubscribe(Room, async ({ params }) => params !== "attic"),
          onPublish(Room, async ({ identity, payload }) => {
            if (payload.text === "") throw new RuleRefused({ message: "Write something." })
            return { ...payload, sender: identity }
          })
        ]
      })
      const wire = yield* connect(ws)
      wire.send({ type: "hello", version: 1, token: "ada" })
      yield* wire.next("welcome")
      const ask = (frame: object) => {
        wire.send(frame)
        return wire.next("subscribed", "published", "error")
      }
      const publish = (id: number, text: string) => ({
        type: "publish",
        id,
        channel: "room_a",
        key: `k${id}`,
        data: { sender: "bob", text }
      })
      expect(yield* ask({ type: "subscribe", id: 1, channel: "room_attic" })).toMatchObject({
        code: "channel/forbidden"
      })
      expect(yield* ask({ type: "subscribe", id: 2, channel: "room_a" })).toMatchObject({ id: 2 })
      expect(yield* ask(publish(3, ""))).toMatchObject({
        code: "publish/forbidden",
        message: "Write something."
      })
      expect(yield* ask(publish(4, "hi"))).toMatchObject({ type: "published" })
      expect((yield* wire.next("events")).events.map(({ data }) => data)).toEqual([
        { sender: "ada", text: "hi" }
      ])
    })
  )

  it.live("the constructor throws for rules that leave out a definition", () =>
    Effect.gen(function* () {
      const http = yield* httpServer
      const url = "postgres://u@127.0.0.1:1/x"
      const rules = ({ onSubscribe }: RealtimeServer.RuleMaker<undefined>) => [
        onSubscribe(MyChannel, () => true)
      ]
      expect(() => new RealtimeServer(http, url, { channels: [MyChannel], rules })).toThrow(
        `The option rules is a list without onPublish for "my-channel".`
      )
      expect(() => new RealtimeServer(http, url, { rules })).toThrow(
        `The option rules is a list with onSubscribe for "my-channel", which is not in channels.`
      )
      expect(
        () => new RealtimeServer(http, url, { channels: [MyChannel], rules, ...open })
      ).toThrow("The option rules is given beside authorize.")
    })
  )

  it.live("the constructor throws in production without authorize", () =>
    Effect.gen(function* () {
      const http = yield* httpServer
      vi.stubEnv("NODE_ENV", "production")
      const attempt = () => new RealtimeServer(http, "postgres://127.0.0.1:1/x")
      expect(attempt).toThrow(RefusedToStart)
      expect(attempt).toThrow(/authorize/)
      const server = new RealtimeServer(http, "postgres://u@127.0.0.1:1/x", open)
      yield* Effect.promise(() => server.close())
    })
  )

  it.live("revoke closes the identity's sessions within 1 s, also one that never reads", () =>
    Effect.gen(function* () {
      const { server, ws } = yield* start<string>({
        channels: [MyChannel],
        authenticate: ({ token }) => ({ identity: token ?? "" }),
        authorize: () => true
      })
      const enter = (token: string) =>
        Effect.gen(function* () {
          const wire = yield* connect(ws)
          wire.send({ type: "hello", version: 1, token })
          yield* wire.next("welcome")
          wire.send({ type: "subscribe", id: 1, channel: "my-channel" })
          yield* wire.next("subscribed")
          return wire
        })
      const [ann, annToo, bob] = [yield* enter("ann"), yield* enter("ann"), yield* enter("bob")]
      ann.socket.pause()
      const before = performance.now()
      void server.revoke("ann")
      expect(yield* annToo.closed).toBe(4101)
      expect(performance.now() - before).toBeLessThan(1000)
      yield* Effect.promise(() => server.publish(MyChannel, "for who is still here"))
      expect((yield* bob.next("events")).events[0]!.data).toBe("for who is still here")
      ann.socket.resume()
      expect(yield* ann.closed).toBe(4101)
      for (const { frames } of [ann, annToo]) {
        expect(frames.filter(({ type }) => type === "events")).toEqual([])
      }
    })
  )

  it.live("revoke and reauthorize of the class find sessions by identityKey alone", () =>
    Effect.gen(function* () {
      let allowed = true
      const { server, ws } = yield* start({
        channels: [MyChannel],
        authenticate: ({ token = "" }) => ({ identity: { id: token, role: "user" } }),
        authorize: () => allowed,
        identityKey: ({ id }) => id
      })
      const wire = yield* connect(ws)
      wire.send({ type: "hello", version: 1, token: "ann" })
      yield* wire.next("welcome")
      wire.send({ type: "subscribe", id: 1, channel: "my-channel" })
      yield* wire.next("subscribed")
      allowed = false
      yield* Effect.promise(() => server.reauthorize("ann"))
      expect((yield* wire.next("ended")).code).toBe("channel/forbidden")
      void server.revoke("ann")
      expect(yield* wire.closed).toBe(4101)
    })
  )

  it.live("the constructor throws for an invalid option", () =>
    Effect.gen(function* () {
      const http = yield* httpServer
      const start = (options: RealtimeServer.Options) => () =>
        new RealtimeServer(http, "postgres://127.0.0.1:1/x", options)
      expect(start({ limits: { maxSessions: Number.NaN } })).toThrow(/limits\.maxSessions is NaN/)
      expect(start({ origins: ["https://app.example/"] })).toThrow(/"https:\/\/app\.example"/)
      expect(start({ limits: { sessionPerAddress: 1 } as Limits })).toThrow(/maxSessionsPerAddress/)
      const authorize = "hunter2" as unknown as () => boolean
      expect(start({ authorize })).toThrow("The option authorize is of type string.")
    })
  )

  it.live("the constructor throws without a database URL, and names DATABASE_URL", () =>
    Effect.gen(function* () {
      const http = yield* httpServer
      expect(() => new RealtimeServer(http, undefined)).toThrow(/DATABASE_URL/)
    })
  )

  it.live("the constructor throws for a text that is no URL", () =>
    Effect.gen(function* () {
      const http = yield* httpServer
      expect(() => new RealtimeServer(http, "nonsense", open)).toThrow(/is no URL/)
      const listenUrl = "also nonsense"
      expect(() => new RealtimeServer(http, "postgres://u@h/d", { ...open, listenUrl })).toThrow(
        RefusedToStart
      )
    })
  )

  it.live("ready rejects when two channels have the same name", () =>
    Effect.gen(function* () {
      const http = yield* httpServer
      const channels = [MyChannel, MyChannel]
      const server = new RealtimeServer(http, "postgres://u@127.0.0.1:1/x", { ...open, channels })
      const error = yield* Effect.flip(Effect.tryPromise(() => server.ready))
      expect(String(error.cause)).toContain("my-channel")
      yield* Effect.promise(() => server.close())
    })
  )

  it.live("the server leaves requests and other upgrade listeners alone", () =>
    Effect.gen(function* () {
      const { http, ws } = yield* start(open)
      const theirs = new WebSocketServer({ noServer: true })
      http.on("upgrade", (request, socket, head) => {
        if (request.url === "/theirs") {
          theirs.handleUpgrade(request, socket, head, (peer) => peer.close(4999))
        }
      })
      const plain = yield* Effect.promise(() => fetch(`http://${addressOf(http)}/`))
      expect(yield* Effect.promise(() => plain.text())).toBe("theirs")
      const other = yield* connect(ws.replace("/realtime", "/theirs"), { protocols: [] })
      expect(yield* other.closed).toBe(4999)
      yield* greet(ws)
    })
  )

  it.live("an upgrade to another path gets 404 when no other listener is there", () =>
    Effect.gen(function* () {
      const { ws } = yield* start(open)
      const refused = yield* Effect.flip(connect(ws.replace("/realtime", "/elsewhere")))
      expect(refused.status).toBe(404)
    })
  )

  it.live("a server survives 20 resets in the middle of an upgrade", () =>
    Effect.gen(function* () {
      const { http, ws } = yield* start(open)
      for (let round = 0; round < 20; round++) {
        yield* Effect.callback<void>((resume) => {
          const socket = tcp((http.address() as AddressInfo).port, "127.0.0.1", () => {
            socket.write(
              "GET /realtime HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            )
            socket.resetAndDestroy()
          })
          socket.on("close", () => resume(Effect.void))
        })
      }
      yield* greet(ws)
    })
  )

  it.live("close ends sockets and PostgreSQL sessions, and removes the listener", () =>
    Effect.gen(function* () {
      const { databaseUrl, http, server, ws } = yield* start(open)
      const wire = yield* greet(ws)
      yield* Effect.promise(() =>
        server.publish(Channel.systemNotifications, {
          type: "info",
          message: "opens a pooled connection"
        })
      )
      const before = performance.now()
      yield* Effect.promise(() => server.close())
      expect(performance.now() - before).toBeLessThan(3000)
      expect(yield* wire.closed).toBe(4000)
      expect(http.listenerCount("upgrade")).toBe(0)
      // PostgreSQL notices a little later that its client has gone.
      const left = execute(
        databaseUrl,
        "select count(*)::int as n from pg_stat_activity where datname = current_database() and application_name like 'effect-realtime%'"
      ).pipe(Effect.map((rows) => rows[0]?.["n"]))
      yield* Effect.repeat(left, { until: (n) => n === 0 })
    })
  )

  it.live("a draining server rejects upgrades with 503", () =>
    Effect.gen(function* () {
      const { http, server, ws } = yield* start()
      // The sessions close 50 ms apart: the server drains while the last one is there.
      const wires = yield* Effect.forEach(Array.from({ length: 20 }), () => greet(ws))
      const closing = server.close()
      expect(yield* wires[0]!.closed).toBe(4000)
      const status = yield* Effect.promise(
        () =>
          new Promise((resolve) => {
            request({
              port: (http.address() as AddressInfo).port,
              path: "/realtime",
              headers: {
                connection: "Upgrade",
                upgrade: "websocket",
                "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
                "sec-websocket-version": "13",
                "sec-websocket-protocol": "effect-realtime.v1"
              }
            })
              .on("response", ({ statusCode }) => resolve(statusCode))
              .on("upgrade", () => resolve(101))
              .on("error", resolve)
              .end()
          })
      )
      expect(status).toBe(503)
      yield* Effect.promise(() => closing)
      expect(yield* wires.at(-1)!.closed).toBe(4000)
    })
  )

  it.live("close waits for a publish that is under way", () =>
    Effect.gen(function* () {
      const { server } = yield* start(open)
      const published = server.publish(MyChannel, "the last word")
      yield* Effect.promise(() => server.close())
      yield* Effect.promise(() => published)
    })
  )

  it.live("close waits 1 s for a publish to a database that has fallen silent, and cuts it", () =>
    Effect.gen(function* () {
      const { url } = yield* installedDatabase
      const through = yield* databaseHop(url)
      const http = yield* httpServer
      const server = new RealtimeServer(http, through.url, {
        ...open,
        channels: [Kept],
        limits: { drainTimeout: "100 millis" }
      })
      yield* Effect.promise(() => server.ready)
      yield* Effect.promise(() => server.publish(Kept, 1))
      through.silence()
      const published = server.publish(Kept, 2).then(String, String)
      const before = performance.now()
      yield* Effect.promise(() => server.close())
      const took = performance.now() - before
      expect(took).toBeGreaterThan(990)
      expect(took).toBeLessThan(4000)
      expect(yield* Effect.promise(() => published)).toContain("closed before it was published")
    })
  )

  // A database that never answers, and one that is not there.
  it.live.each(["silent", "refused"])(
    "ready and publish reject when the server is closed before it is ready, with a database that is %s",
    (how) =>
      Effect.gen(function* () {
        const http = yield* httpServer
        const port = how === "silent" ? yield* tcpServer() : 1
        const server = new RealtimeServer(http, `postgres://u@127.0.0.1:${port}/x`, open)
        const ready = server.ready.then(String, String)
        const sending = server
          .publish(Channel.systemNotifications, { type: "info", message: "too early" })
          .then(String, String)
        yield* Effect.promise(() => server.close())
        expect(yield* Effect.promise(() => ready)).toContain("closed before it was ready")
        expect(yield* Effect.promise(() => sending)).toContain(
          how === "silent" ? "closed before it was published" : "Error"
        )
      })
  )

  it.live("publish and reauthorize of a closed server reject with ServerClosed", () =>
    Effect.gen(function* () {
      const { server } = yield* start<string>({
        authenticate: () => ({ identity: "ann" }),
        authorize: () => true
      })
      yield* Effect.promise(() => server.close())
      const uses = [
        server.publish(Channel.systemNotifications, { type: "info", message: "too late" }),
        server.reauthorize("ann")
      ]
      const errors = yield* Effect.promise(() =>
        Promise.all(
          uses.map((use) =>
            use.then(
              () => undefined,
              (error: unknown) => error
            )
          )
        )
      )
      expect(errors).toEqual([
        new ServerClosed({ before: "it was published" }),
        new ServerClosed({ before: "rights were checked" })
      ])
      // It was ready, so ready stays resolved.
      yield* Effect.promise(() => server.ready)
    })
  )

  it.live("drains: closes its sessions, takes no new ones, and publishes on", () =>
    Effect.gen(function* () {
      const { http, server, ws } = yield* start({ ...open, channels: [MyChannel] })
      expect([server.sessions(), server.isReady()]).toEqual([0, true])
      const wires = [yield* greet(ws), yield* greet(ws)]
      expect(server.sessions()).toBe(2)
      yield* Effect.promise(() => server.drain())
      for (const wire of wires) {
        expect(yield* wire.closed).toBe(4000)
        expect(wire.frames.at(-1)!.type).toBe("bye")
      }
      expect([server.sessions(), server.isReady()]).toEqual([0, false])
      expect(yield* Effect.flip(connect(ws))).toMatchObject({ status: 503 })
      yield* Effect.promise(() => server.publish(MyChannel, "for other nodes"))
      yield* Effect.promise(() => server.drain())
      yield* Effect.promise(() => server.close())
      expect(http.listening).toBe(true)
    })
  )

  it.live("that drains before it has started takes no session when it has", () =>
    Effect.gen(function* () {
      const { url } = yield* database
      const http = yield* httpServer
      const server = new RealtimeServer(http, url, open)
      yield* Effect.addFinalizer(() => Effect.promise(() => server.close()))
      yield* Effect.promise(() => server.drain())
      yield* Effect.promise(() => server.ready)
      expect(server.isReady()).toBe(false)
      const refused = yield* Effect.flip(connect(`ws://${addressOf(http)}/realtime`))
      expect(refused).toMatchObject({ status: 503 })
    })
  )

  it("opens everything by the word that the server has too", () => {
    expect(RealtimeServer.allowAll).toBe(allowAll)
  })

  it.live("a server is an async disposable", () =>
    Effect.gen(function* () {
      const { url } = yield* database
      const http = yield* httpServer
      yield* Effect.promise(async () => {
        await using server = new RealtimeServer(http, url, open)
        await server.ready
      })
      expect(http.listenerCount("upgrade")).toBe(0)
    })
  )
})
