/**
 * Sockets that never become sessions, or not for long: half a handshake, silence, a reset at any
 * moment, a peer that does not leave. They need real sockets.
 */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Layer, Metric, Schema, type Scope } from "effect"
import { createServer, type Server, type ServerOptions } from "node:http"
import { type AddressInfo, connect as tcp, type Socket } from "node:net"
import * as Channel from "../../src/Channel.ts"
import { attach } from "../../src/server/internal/door/attach.ts"
import * as Door from "../../src/server/internal/door/door.ts"
import * as metrics from "../../src/server/internal/metrics.ts"
import * as MemorySource from "../../src/server/MemorySource.ts"
import * as Realtime from "../../src/server/Realtime.ts"
import { allowAll, type AnonymousOptions } from "../../src/server/ServerOptions.ts"
import * as App from "../support/app.ts"
import { refusals } from "../support/sessions.ts"
import { greet } from "../support/wire.ts"
import { handshake, wireFrame } from "../whole/support/hostile.ts"

const Flood = Channel.make("flood", Schema.String)

const options: AnonymousOptions = {
  channels: [Flood, Channel.make("orders", Schema.Struct({ id: Schema.Int }))],
  authorize: allowAll
}

interface Beside {
  readonly server: Server
  readonly port: number
  readonly door: Door.Door
  readonly connections: Effect.Effect<number>
}

/** A server attached to an HTTP server of an application. */
const attached = <A, E>(
  body: (beside: Beside) => Effect.Effect<A, E, Realtime.Realtime | Scope.Scope>,
  more: Partial<AnonymousOptions> = {},
  http: ServerOptions = {}
) =>
  Effect.gen(function* () {
    const server = yield* Effect.acquireRelease(
      Effect.callback<Server>((resume) => {
        const made = createServer(http, (_, response) => response.end("theirs"))
        made.listen(0, "127.0.0.1", () => resume(Effect.succeed(made)))
      }),
      (server) =>
        Effect.sync(() => {
          server.close()
          server.closeAllConnections()
        })
    )
    const door = yield* Door.make({ ...options, ...more })
    yield* attach(door, server)
    const connections = Effect.callback<number>((resume) => {
      server.getConnections((_, count) => resume(Effect.succeed(count)))
    })
    return yield* body({
      server,
      door,
      connections,
      port: (server.address() as AddressInfo).port
    })
  }).pipe(
    Effect.scoped,
    Effect.provide(Realtime.layer().pipe(Layer.provideMerge(MemorySource.layer)))
  )

interface Raw {
  readonly socket: Socket
  readonly received: () => string
  /** The other end has closed the connection completely. */
  readonly gone: Effect.Effect<void>
}

/** A peer that writes these bytes and never closes its own side. */
const raw = (port: number, bytes: string | Buffer): Effect.Effect<Raw, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.callback<Raw>((resume) => {
      let received = ""
      let gone = false
      let tell = () => {}
      const socket = tcp({ port, host: "127.0.0.1", allowHalfOpen: true }, () => {
        socket.write(bytes)
        resume(
          Effect.succeed({
            socket,
            received: () => received,
            gone: Effect.callback<void>((done) => {
              tell = () => done(Effect.void)
              if (gone) tell()
            })
          })
        )
      })
      const end = () => {
        gone = true
        tell()
      }
      socket.on("data", (data: Buffer) => {
        received += data.toString("latin1")
      })
      socket.on("error", end)
      socket.on("end", end)
    }),
    ({ socket }) => Effect.sync(() => socket.destroy())
  )

/** Waits until a server has `wanted` sessions. */
const size = (door: Door.Door, wanted: number) =>
  Effect.repeat(Effect.delay(Effect.sync(door.size), "5 millis"), {
    until: (size) => size === wanted
  })

/** Waits until the count is 0. */
const none = (count: Effect.Effect<number>) =>
  Effect.repeat(Effect.delay(count, "5 millis"), { until: (count) => count === 0 })

const hello = wireFrame(Buffer.from('{"type":"hello","version":1}'))
const subscribe = wireFrame(Buffer.from('{"type":"subscribe","id":1,"channel":"flood"}'))
/** The payload of a close frame: 1000. */
const goodbye = Buffer.from([3, 232])
const upgrade = handshake("/realtime")

/** The number of dropped backlogs. */
const backlogs = Effect.map(Metric.value(metrics.backlogsDropped), ({ count }) => count)

describe("A peer that does not leave", () => {
  it.live("a peer that stays after its rejection is cut", () =>
    attached(({ connections, port }) =>
      Effect.gen(function* () {
        const evil = upgrade.replace("\r\n\r\n", "\r\nOrigin: https://evil.example\r\n\r\n")
        const peer = yield* raw(port, evil)
        yield* peer.gone
        expect(peer.received()).toMatch(/^HTTP\/1\.1 403 /)
        yield* none(connections)
      })
    )
  )

  it.live("a peer that stays after 404 on an unknown path is cut", () =>
    attached(({ connections, port }) =>
      Effect.gen(function* () {
        const peer = yield* raw(port, handshake("/elsewhere"))
        yield* peer.gone
        expect(peer.received()).toMatch(/^HTTP\/1\.1 404 /)
        yield* none(connections)
      })
    )
  )

  it.live(
    "a peer without hello, pong or close answer gets a close code and is cut, and leaves no connection",
    () =>
      attached(
        ({ connections, door, port }) =>
          Effect.gen(function* () {
            const unmasked = wireFrame(Buffer.from("x"), { masked: false })
            const peers = [
              [yield* raw(port, upgrade), 4005],
              [yield* raw(port, Buffer.concat([Buffer.from(upgrade), hello])), 4002],
              [yield* raw(port, Buffer.concat([Buffer.from(upgrade), hello, unmasked])), 1002]
            ] as const
            for (const [peer, code] of peers) {
              yield* peer.gone
              const frames = Buffer.from(peer.received().split("\r\n\r\n")[1]!, "latin1")
              expect(frames.includes(Buffer.from([code >> 8, code & 255]))).toBe(true)
            }
            yield* none(connections)
            yield* none(Effect.sync(door.size))
          }),
        {
          limits: {
            helloTimeout: "100 millis",
            pingInterval: "200 millis",
            pingTimeout: "200 millis"
          }
        }
      )
  )

  // A close frame, or the end of its writing.
  const farewells = [
    ["says goodbye", (socket: Socket) => void socket.write(wireFrame(goodbye, { opcode: 8 }))],
    ["closes its own side", (socket: Socket) => void socket.end()]
  ] as const
  it.live.each(farewells)("a peer that %s but does not read is reset", ([, leave]) =>
    attached(({ connections, door, port }) =>
      Effect.gen(function* () {
        const peer = yield* raw(port, Buffer.concat([Buffer.from(upgrade), hello, subscribe]))
        yield* Effect.repeat(Effect.sync(peer.received).pipe(Effect.delay("5 millis")), {
          until: (received) => received.includes("subscribed")
        })
        peer.socket.pause()
        const dropped = yield* backlogs
        // More bytes than the kernel buffers.
        while ((yield* backlogs) === dropped) {
          for (let n = 0; n < 50; n++) yield* Realtime.publish(Flood, "x".repeat(7900))
          yield* Effect.sleep("1 millis")
        }
        const ended = new Promise((resolve) => {
          peer.socket.on("error", (error) => resolve("code" in error ? error.code : error))
          peer.socket.on("end", () => resolve("a FIN, behind everything that waits"))
        })
        leave(peer.socket)
        yield* none(Effect.sync(door.size))
        yield* none(connections)
        peer.socket.resume()
        expect(yield* Effect.promise(() => ended)).toBe("ECONNRESET")
      })
    )
  )
})

describe("A peer that is never done", () => {
  /** Writes a piece over and over until the other end closes. */
  const keepWriting = (peer: Raw, piece: Buffer, everyMillis: number) =>
    Effect.raceFirst(
      peer.gone,
      Effect.forever(
        Effect.delay(
          Effect.callback<void>((resume) => {
            // A peer that is held back by the other end waits, as a client must.
            peer.socket.write(piece, () => resume(Effect.void))
          }),
          everyMillis
        )
      )
    )

  it.live("a peer that sends one endless frame is closed with 4002 as silent", () =>
    Effect.gen(function* () {
      const before = yield* refusals("pingTimeout")
      yield* attached(
        ({ connections, port }) =>
          Effect.gen(function* () {
            const frame = wireFrame(Buffer.from("x"), { says: 60_000 })
            const peer = yield* raw(port, Buffer.concat([Buffer.from(upgrade), hello, frame]))
            yield* keepWriting(peer, Buffer.from("x"), 20)
            yield* none(connections)
          }),
        { limits: { pingInterval: "200 millis", pingTimeout: "200 millis" } }
      )
      expect(yield* refusals("pingTimeout")).toBe(before + 1)
    })
  )

  it.live("a peer that pings and reads no pong is closed, and leaves no connection", () =>
    attached(
      ({ connections, door, port }) =>
        Effect.gen(function* () {
          const peer = yield* raw(port, Buffer.concat([Buffer.from(upgrade), hello]))
          yield* size(door, 1)
          peer.socket.pause()
          const ping = wireFrame(Buffer.alloc(125), { opcode: 9 })
          const pings = Buffer.concat(Array.from({ length: 50 }, () => ping))
          yield* Effect.raceFirst(keepWriting(peer, pings, 0), size(door, 0))
          yield* none(connections)
        }),
      { limits: { frameRate: { perSecond: 1e6, burst: 1e6 } } }
    )
  )
})

describe("An upgrade request that never ends", () => {
  it.live("an upgrade with endless headers gets 408 by the HTTP server's headersTimeout", () =>
    attached(
      ({ connections, port }) =>
        Effect.gen(function* () {
          const peer = yield* raw(port, upgrade.slice(0, -4))
          yield* peer.gone
          expect(peer.received()).toMatch(/^HTTP\/1\.1 408 /)
          yield* none(connections)
        }),
      {},
      { headersTimeout: 100, connectionsCheckingInterval: 20 }
    )
  )

  it.live("a connection without a request is closed by the HTTP server", () =>
    attached(
      ({ connections, port }) =>
        Effect.gen(function* () {
          const peer = yield* raw(port, "")
          yield* peer.gone
          yield* none(connections)
        }),
      {},
      { headersTimeout: 100, connectionsCheckingInterval: 20 }
    )
  )

  it("an HTTP server of this Node allows 60 s for headers and 300 s for a request by default", () => {
    const server = createServer()
    expect([server.headersTimeout, server.requestTimeout]).toEqual([60_000, 300_000])
  })
})

describe("Upgrade requests", () => {
  const answers = [
    ["of another version", upgrade.replace("Version: 13", "Version: 12"), 400],
    ["without a key", upgrade.replace(/Sec-WebSocket-Key[^\r]*\r\n/, ""), 400],
    ["to another protocol", upgrade.replace("Upgrade: websocket", "Upgrade: h2c"), 400],
    ["with POST", upgrade.replace("GET", "POST"), 405],
    [
      "with another subprotocol",
      upgrade.replace("\r\n\r\n", "\r\nSec-WebSocket-Protocol: x\r\n\r\n"),
      400
    ],
    [
      "with an invalid subprotocol",
      upgrade.replace("\r\n\r\n", "\r\nSec-WebSocket-Protocol: ,\r\n\r\n"),
      400
    ]
  ] as const
  it.live.each(answers)("an upgrade %s is rejected and cut", ([, request, status]) =>
    attached(({ connections, port }) =>
      Effect.gen(function* () {
        const peer = yield* raw(port, request)
        yield* peer.gone
        expect(peer.received()).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `))
        yield* none(connections)
      })
    )
  )

  it.live("an upgrade may carry the client's first frames", () =>
    attached(({ door, port }) =>
      Effect.gen(function* () {
        const peer = yield* raw(port, Buffer.concat([Buffer.from(upgrade), hello]))
        yield* Effect.repeat(Effect.sync(peer.received).pipe(Effect.delay("5 millis")), {
          until: (received) => received.includes("welcome")
        })
        expect(door.size()).toBe(1)
      })
    )
  )

  it.live("a rejected upgrade is counted by its reason", () =>
    Effect.gen(function* () {
      const before = yield* refusals("403")
      yield* attached(({ port }) =>
        Effect.gen(function* () {
          const evil = upgrade.replace("\r\n\r\n", "\r\nOrigin: null\r\n\r\n")
          yield* (yield* raw(port, evil)).gone
        })
      )
      expect(yield* refusals("403")).toBe(before + 1)
    })
  )
})

describe("Connections that are reset", () => {
  /** Sends some bytes, and resets at once or a moment later. */
  const reset = (port: number, bytes: string | Buffer, turns: number) =>
    Effect.callback<void>((resume) => {
      const socket = tcp(port, "127.0.0.1", () => {
        socket.write(bytes)
        const go = (left: number): unknown =>
          left === 0 ? socket.resetAndDestroy() : setImmediate(() => go(left - 1))
        go(turns)
      })
      socket.on("error", () => {})
      socket.on("close", () => resume(Effect.void))
    })
  const storm = (port: number) =>
    Effect.forEach(
      Array.from({ length: 300 }, (_, index) => index),
      (index) =>
        reset(
          port,
          index % 3 === 0
            ? upgrade.slice(0, (index * 7) % upgrade.length)
            : Buffer.concat([Buffer.from(upgrade), hello]),
          index % 5
        ),
      { concurrency: 20, discard: true }
    )
  const many = { upgradeRate: { perSecond: 1e5, burst: 1e5 } }

  it.live("300 resets during handshakes leave no connection and no session, on node:http", () =>
    attached(
      ({ connections, door, port }) =>
        Effect.gen(function* () {
          yield* storm(port)
          yield* none(connections)
          yield* none(Effect.sync(door.size))
          yield* greet(`ws://127.0.0.1:${port}/realtime`)
        }),
      { limits: many }
    )
  )

  it.live("300 resets during handshakes leave a server of an Effect app working", () =>
    Effect.gen(function* () {
      const { ws } = yield* App.Address
      yield* storm(Number(new URL(ws).port))
      yield* greet(ws)
    }).pipe(Effect.scoped, Effect.provide(App.layer({ ...options, limits: many })))
  )
})

describe("A request that is no upgrade", () => {
  it.live("a GET to the path of an Effect app gets 426", () =>
    Effect.gen(function* () {
      const { http } = yield* App.Address
      const response = yield* Effect.promise(() => fetch(`${http}/realtime`))
      expect(response.status).toBe(426)
      expect(response.headers.get("upgrade")).toBe("websocket")
    }).pipe(Effect.scoped, Effect.provide(App.layer(options)))
  )

  it.live("a GET to the path of a node:http server goes to that server", () =>
    attached(({ port }) =>
      Effect.gen(function* () {
        const response = yield* Effect.promise(() => fetch(`http://127.0.0.1:${port}/realtime`))
        expect(yield* Effect.promise(() => response.text())).toBe("theirs")
      })
    )
  )
})
