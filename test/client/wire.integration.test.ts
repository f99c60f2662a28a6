import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Fiber, Layer, Stream } from "effect"
import * as Schema from "effect/Schema"
import { Channel } from "effect-realtime"
import { createRealtimeClient, RealtimeClient } from "effect-realtime/client"
import { AuthRefused, RealtimeServer } from "effect-realtime/node"
import { createServer } from "node:http"
import { type AddressInfo, createServer as createTcpServer } from "node:net"
import { WebSocket } from "ws"
import * as Database from "../support/database.ts"
import { hop } from "../support/hop.ts"
import { greet } from "../support/wire.ts"
import { until } from "../support/until.ts"

const Moves = Channel.make("moves", Schema.Struct({ x: Schema.Finite }), { publish: true })
const ReadOnly = Channel.make("read_only", Schema.String)

/** The URL of a real server on a database. */
const doorOn = Effect.fnUntraced(function* (
  url: string,
  options?: Pick<RealtimeServer.Options<string>, "authenticate">
) {
  const http = createServer()
  yield* Effect.acquireRelease(
    Effect.promise(async () => {
      const server = new RealtimeServer(http, url, { channels: [Moves, ReadOnly], ...options })
      await server.ready
      await new Promise<void>((resolve) => http.listen(0, "127.0.0.1", resolve))
      return server
    }),
    (server) =>
      Effect.promise(async () => {
        await server.close()
        http.close()
      })
  )
  return `ws://127.0.0.1:${(http.address() as AddressInfo).port}/realtime`
})

const doorWith = (options?: Parameters<typeof doorOn>[1]) =>
  Effect.flatMap(Database.database, ({ url }) => doorOn(url, options))

const door = doorWith()

const client = (url: string) =>
  Effect.flatMap(Layer.build(RealtimeClient.layer({ url })), (context) =>
    Effect.provide(RealtimeClient.RealtimeClient, context)
  )

/** The first three payloads. */
const hear = (client: RealtimeClient.RealtimeClient["Service"]) =>
  client.subscribe(Moves).pipe(Stream.take(3), Stream.runCollect, Effect.forkChild)

/** Waits until the client's subscription is active. */
const open = (client: RealtimeClient.RealtimeClient["Service"]) =>
  Effect.callback<void>((resume) => {
    const stop = client.sync.listen(Moves, {
      onEvents: () => {},
      onCursor: () => resume(Effect.void),
      onEnd: () => {}
    })
    return Effect.sync(stop)
  })

describe("the client over a real socket", () => {
  it.live("receives its own events and those of others in order", () =>
    Effect.gen(function* () {
      const url = yield* door
      const [one, two] = [yield* client(url), yield* client(url)]
      const heard = [yield* hear(one), yield* hear(two)]
      yield* Effect.all([open(one), open(two)])
      for (const x of [1, 2, 3]) yield* one.publish(Moves, { x })
      for (const fiber of heard) {
        assert.deepStrictEqual(yield* Fiber.join(fiber), [{ x: 1 }, { x: 2 }, { x: 3 }])
      }
    })
  )

  it.live("calls onBatch a few times for 200 rows of one statement, with each row once", () =>
    Effect.gen(function* () {
      const { url } = yield* Database.database
      const plain = yield* Effect.acquireRelease(
        Effect.map(doorOn(url), (url) => createRealtimeClient({ url })),
        (plain) => Effect.promise(() => plain.close())
      )
      const batches: Array<ReadonlyArray<number>> = []
      const xs = () => batches.flat()
      let active = false
      plain.listen(Moves, undefined, {
        onBatch: (moves) => batches.push(moves.map(({ x }) => x)),
        onCursor: () => {
          active = true
        }
      })
      yield* until(() => active)
      const notify = `select pg_notify('moves', '{"x":' || n || '}') from generate_series`
      yield* Database.execute(url, `${notify}(1, 200) n`)
      yield* until(() => xs().length === 200)
      assert.deepStrictEqual(
        xs(),
        Array.from({ length: 200 }, (_, n) => n + 1)
      )
      assert.isAtMost(batches.length, 4)
      yield* Database.execute(url, `${notify}(201, 201) n`)
      yield* until(() => xs().length === 201)
      assert.deepStrictEqual(batches.at(-1), [201])
    })
  )

  it.live("receives an answer to its probe", () =>
    Effect.gen(function* () {
      const wire = yield* greet(yield* door)
      wire.send({ type: "ping" })
      assert.deepStrictEqual(yield* wire.next("pong"), { type: "pong" })
    })
  )

  it.live("fails with the server's refusal of a subscription and of a publish", () =>
    Effect.gen(function* () {
      const own = yield* client(yield* door)
      const unknown = yield* Effect.flip(Stream.runDrain(own.events(Channel.untyped("nothing"))))
      assert.deepInclude(unknown, { _tag: "Refused", code: "channel/unknown", channel: "nothing" })
      const forbidden = yield* Effect.flip(own.publish(Channel.untyped("read_only"), "x"))
      assert.deepInclude(forbidden, { _tag: "Refused", code: "publish/forbidden" })
      const large = yield* Effect.flip(own.publish(Channel.untyped("moves"), "x".repeat(8000)))
      assert.strictEqual(large._tag, "Refused")
    })
  )

  it.live("stops with the sentence of the close code when the server rejects it", () =>
    Effect.gen(function* () {
      const url = yield* doorWith({
        authenticate: () => {
          throw new AuthRefused({ code: "auth/invalid" })
        }
      })
      const own = yield* client(url)
      const stopped = yield* Effect.flip(Stream.runDrain(own.events(Moves)))
      assert.deepInclude(stopped, { _tag: "ConnectionStopped", code: 4202, reason: "server" })
      assert.strictEqual(
        stopped.message,
        "The connection stopped (4202: The server does not let the client in: auth/invalid). Call reconnect when the cause is gone."
      )
    })
  )

  it.live("keeps reconnecting after refused connections with the class of `ws`", () =>
    Effect.gen(function* () {
      // A free port without a listener.
      const port = yield* Effect.callback<number>((resume) => {
        const free = createTcpServer().listen(0, "127.0.0.1", () => {
          const { port } = free.address() as AddressInfo
          free.close(() => resume(Effect.succeed(port)))
        })
      })
      const layer = RealtimeClient.layer({
        url: `ws://127.0.0.1:${port}/realtime`,
        webSocket: WebSocket
      })
      const own = Context.get(yield* Layer.build(layer), RealtimeClient.RealtimeClient)
      own.sync.listen(Moves, { onEvents: () => {}, onEnd: () => {} })
      const failed = yield* own.connection.pipe(
        Stream.filter((state) => state.status === "waiting"),
        Stream.take(2),
        Stream.runCollect
      )
      assert.deepStrictEqual(
        failed.map(({ message, reason }) => [reason, message]),
        Array.from({ length: 2 }, () => ["lost", "The connection could not be opened"])
      )
    })
  )

  it.live("destroys a dead socket when the WebSocket class has terminate", () =>
    Effect.gen(function* () {
      const target = new URL(yield* door)
      const { heal, port, silence } = yield* hop({ host: "127.0.0.1", port: Number(target.port) })
      const sockets: Array<WebSocket> = []
      let check = () => {}
      const layer = RealtimeClient.layer({
        url: `ws://127.0.0.1:${port}/realtime`,
        webSocket: class extends WebSocket {
          constructor(url: string, protocols: Array<string>) {
            super(url, protocols)
            sockets.push(this)
          }
        },
        signals: (look) => {
          check = look
          return () => {}
        }
      })
      const own = Context.get(yield* Layer.build(layer), RealtimeClient.RealtimeClient)
      yield* open(own)
      own.sync.listen(Moves, { onEvents: () => {}, onEnd: () => {} })
      const [first] = sockets
      assert.strictEqual(first!.readyState, WebSocket.OPEN)
      silence()
      // A signal probes the socket for 5 s. `ws` itself would wait another 30 s.
      check()
      yield* own.connection.pipe(
        Stream.filter((state) => state.status !== "open"),
        Stream.take(1),
        Stream.runDrain
      )
      heal()
      yield* until(() => first!.readyState === WebSocket.CLOSED)
    })
  )
})
