/**
 * Sockets that never become sessions, or not for long: half a handshake, silence, a reset at any
 * moment, a peer that does not leave. With a kernel, because that is where they live.
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

/** A door attached to a plain server of somebody else. */
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
  /** The other end has let go altogether. */
  readonly gone: Effect.Effect<void>
}

/** A peer that writes what it is told and never closes its own side. */
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

/** Waits until a door has so many sessions. */
const size = (door: Door.Door, wanted: number) =>
  Effect.repeat(Effect.delay(Effect.sync(door.size), "5 millis"), {
    until: (size) => size === wanted
  })

/** Waits until there is nobody. */
const none = (count: Effect.Effect<number>) =>
  Effect.repeat(Effect.delay(count, "5 millis"), { until: (count) => count === 0 })

const hello = wireFrame(Buffer.from('{"type":"hello","version":1}'))
const subscribe = wireFrame(Buffer.from('{"type":"subscribe","id":1,"channel":"flood"}'))
/** What a close frame says: 1000. */
const goodbye = Buffer.from([3, 232])
const upgrade = handshake("/realtime")

/** How often a backlog was dropped. */
const backlogs = Effect.map(Metric.value(metrics.backlogsDropped), ({ count }) => count)

describe("a peer that does not leave", () => {
  it.live("is cut after its refusal", () =>
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

  it.live("is cut after 404 on a path that nobody has", () =>
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
    "is told why and cut 2 s later, when it says no hello, answers no ping or no close frame",
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

  // A close frame, or the end of what it writes.
  const farewells = [
    ["says goodbye", (socket: Socket) => void socket.write(wireFrame(goodbye, { opcode: 8 }))],
    ["closes its own side", (socket: Socket) => void socket.end()]
  ] as const
  it.live.each(farewells)("but %s, and reads nothing, is cut with a reset 2 s later", ([, leave]) =>
    attached(({ connections, door, port }) =>
      Effect.gen(function* () {
        const peer = yield* raw(port, Buffer.concat([Buffer.from(upgrade), hello, subscribe]))
        yield* Effect.repeat(Effect.sync(peer.received).pipe(Effect.delay("5 millis")), {
          until: (received) => received.includes("subscribed")
        })
        peer.socket.pause()
        const dropped = yield* backlogs
        // More than the kernel takes.
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

describe("a peer that is never done", () => {
  /** Writes a piece over and over until the other end lets go. */
  const keepWriting = (peer: Raw, piece: Buffer, everyMillis: number) =>
    Effect.raceFirst(
      peer.gone,
      Effect.forever(
        Effect.delay(
          Effect.callback<void>((resume) => {
            // One that is held back by the other end waits, as a client must.
            peer.socket.write(piece, () => resume(Effect.void))
          }),
          everyMillis
        )
      )
    )

  it.live("with one frame is no sign of life: it is closed with 4002", () =>
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

  it.live("pinging, and reads no pong, is cut before many of them wait", () =>
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

describe("an upgrade request that never ends", () => {
  it.live("is the HTTP server's, whose time for headers holds here too", () =>
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

  it.live("nor one that never begins", () =>
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

  it("has 60 s for its headers and 300 s in all by default, in this Node", () => {
    const server = createServer()
    expect([server.headersTimeout, server.requestTimeout]).toEqual([60_000, 300_000])
  })
})

describe("an upgrade request", () => {
  const answers = [
    ["of another version", upgrade.replace("Version: 13", "Version: 12"), 400],
    ["without a key", upgrade.replace(/Sec-WebSocket-Key[^\r]*\r\n/, ""), 400],
    ["to something else", upgrade.replace("Upgrade: websocket", "Upgrade: h2c"), 400],
    ["that posts", upgrade.replace("GET", "POST"), 405],
    [
      "of another subprotocol",
      upgrade.replace("\r\n\r\n", "\r\nSec-WebSocket-Protocol: x\r\n\r\n"),
      400
    ],
    [
      "of a subprotocol that is none",
      upgrade.replace("\r\n\r\n", "\r\nSec-WebSocket-Protocol: ,\r\n\r\n"),
      400
    ]
  ] as const
  it.live.each(answers)("%s is answered and cut", ([, request, status]) =>
    attached(({ connections, port }) =>
      Effect.gen(function* () {
        const peer = yield* raw(port, request)
        yield* peer.gone
        expect(peer.received()).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `))
        yield* none(connections)
      })
    )
  )

  it.live("may bring its first frames along", () =>
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

  it.live("that is refused is counted by its reason", () =>
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

describe("a reset", () => {
  /** Sends some of it, and resets at once or a moment later. */
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

  it.live("at any moment of a handshake hurts nobody, beside a plain server", () =>
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

  it.live("nor inside an Effect app", () =>
    Effect.gen(function* () {
      const { ws } = yield* App.Address
      yield* storm(Number(new URL(ws).port))
      yield* greet(ws)
    }).pipe(Effect.scoped, Effect.provide(App.layer({ ...options, limits: many })))
  )
})

describe("a request that is no upgrade", () => {
  it.live("to the path of an Effect app is told to upgrade", () =>
    Effect.gen(function* () {
      const { http } = yield* App.Address
      const response = yield* Effect.promise(() => fetch(`${http}/realtime`))
      expect(response.status).toBe(426)
      expect(response.headers.get("upgrade")).toBe("websocket")
    }).pipe(Effect.scoped, Effect.provide(App.layer(options)))
  )

  it.live("to the path of a plain server is that server's", () =>
    attached(({ port }) =>
      Effect.gen(function* () {
        const response = yield* Effect.promise(() => fetch(`http://127.0.0.1:${port}/realtime`))
        expect(yield* Effect.promise(() => response.text())).toBe("theirs")
      })
    )
  )
})
