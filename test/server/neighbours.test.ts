/**
 * A server beside other listeners of one HTTP server: each has its own paths, in whatever order
 * they are added; a listener that answers our sockets is named in the log, and an upgrade that no
 * listener answers is closed.
 */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Exit, Layer, Logger, Schema, Scope } from "effect"
import { TestClock } from "effect/testing"
import { createServer, type IncomingMessage, type Server } from "node:http"
import { createServer as createTlsServer } from "node:https"
import { type AddressInfo, connect as tcp, type Socket } from "node:net"
import { Readable } from "node:stream"
import { connect as tls } from "node:tls"
import { createServer as createVite } from "vite"
import { type WebSocket, WebSocketServer } from "ws"
import { otherWebSocket } from "../../examples/node/neighbours.ts"
import * as Channel from "../../src/Channel.ts"
import { attach } from "../../src/server/internal/door/attach.ts"
import * as Door from "../../src/server/internal/door/door.ts"
import * as MemorySource from "../../src/server/MemorySource.ts"
import * as Realtime from "../../src/server/Realtime.ts"
import { allowAll, type AnonymousOptions } from "../../src/server/ServerOptions.ts"
import * as App from "../support/app.ts"
import { refusals } from "../support/sessions.ts"
import { connect, greet } from "../support/wire.ts"
import { handshake } from "../whole/support/hostile.ts"

const options: AnonymousOptions = {
  channels: [Channel.make("orders", Schema.Struct({ id: Schema.Int }))],
  authorize: allowAll
}

/** TLS by a shared key, which needs no certificate. */
const psk = { ciphers: "PSK", maxVersion: "TLSv1.2" } as const
const sharedKey = Buffer.alloc(32, 7)
const tlsMade = () => createTlsServer({ ...psk, pskCallback: () => sharedKey }) as Server
const keyed = {
  ...psk,
  pskCallback: () => ({ psk: sharedKey, identity: "a test" }),
  checkServerIdentity: () => undefined
}

/** Collects the lines of the log. */
const logInto = (lines: Array<string>) =>
  Logger.layer([
    Logger.make(({ message }) => void lines.push([message].flat().map(String).join(" ")))
  ])

interface Beside {
  readonly server: Server
  readonly ws: string
  readonly port: number
  readonly lines: ReadonlyArray<string>
}

type Other = (server: Server) => Effect.Effect<unknown, never, Scope.Scope>

/** A server, and another listener added before it or after it. */
const beside = <A, E>(
  { first, other }: { readonly first: "ours" | "theirs"; readonly other: Other },
  body: (beside: Beside) => Effect.Effect<A, E, Realtime.Realtime | Scope.Scope>,
  made: () => Server = () => createServer((_, response) => response.end("theirs")),
  more: Partial<AnonymousOptions> = {}
) => {
  const lines: Array<string> = []
  return Effect.gen(function* () {
    const server = yield* Effect.acquireRelease(Effect.sync(made), (server) =>
      Effect.sync(() => {
        server.close()
        server.closeAllConnections()
      })
    )
    const ours = Effect.flatMap(Door.make({ ...options, ...more }), (door) => attach(door, server))
    yield* first === "ours"
      ? Effect.andThen(ours, other(server))
      : Effect.andThen(other(server), ours)
    yield* Effect.callback<void>((resume) => {
      server.listen(0, "127.0.0.1", () => resume(Effect.void))
    })
    const { port } = server.address() as AddressInfo
    return yield* body({ server, port, ws: `ws://127.0.0.1:${port}`, lines })
  }).pipe(
    Effect.scoped,
    Effect.provide(Realtime.layer().pipe(Layer.provideMerge(MemorySource.layer))),
    Effect.provide(logInto(lines))
  )
}

const greeting = (wss: WebSocketServer): WebSocketServer =>
  wss.on("connection", (socket) => socket.close(4999, "theirs"))

/** Releases with the test. */
const closing = <A>(make: () => A, close: (made: A) => unknown) =>
  Effect.acquireRelease(Effect.sync(make), (made) => Effect.promise(async () => close(made)))

const wsOnPath: Other = (server) =>
  closing(
    () => greeting(new WebSocketServer({ server, path: "/other" })),
    (wss) => wss.close()
  )

const wsOnAll: Other = (server) =>
  closing(
    () => greeting(new WebSocketServer({ server })),
    (wss) => wss.close()
  )

const wsWithoutServer: Other = (server) =>
  Effect.sync(() => {
    greeting(otherWebSocket(server))
  })

const orders = ["ours", "theirs"] as const

/** The other listener of each test closes with 4999. */
const theirs = (ws: string) =>
  Effect.flatMap(connect(`${ws}/other`, { protocols: [] }), ({ closed }) => closed)

describe("A listener that answers our upgrades", () => {
  const answering = [
    ["with a path", wsOnPath, `it says "HTTP/1.1 400 Bad Request"`],
    ["for all paths", wsOnAll, "it ends it"]
  ] as const
  for (const [what, other, did] of answering) {
    it.live.each(orders)(
      `a WebSocketServer ${what} cannot answer our upgrades with %s first, and is named in the log once`,
      (first) =>
        beside({ first, other }, ({ lines, ws }) =>
          Effect.gen(function* () {
            for (let n = 0; n < 3; n++) {
              const wire = yield* greet(`${ws}/realtime`)
              wire.send({ type: "subscribe", id: 1, channel: "orders" })
              yield* wire.next("subscribed")
            }
            expect(yield* theirs(ws)).toBe(4999)
            expect(lines).toHaveLength(1)
            expect(lines[0]).toContain(
              `Another "upgrade" listener of this HTTP server answers WebSockets at /realtime, which are not its own (${did}).`
            )
            expect(lines[0]).toContain("noServer")
          })
        )
    )
  }

  const late = [
    [
      "writes",
      (socket: Socket) => socket.write("HTTP/1.1 401 Unauthorized\r\n\r\n"),
      `it says "HTTP/1.1 401 Unauthorized"`
    ],
    ["writes to it", (socket: Socket) => socket.write(Buffer.from("nobody")), `it says "nobody"`],
    ["ends", (socket: Socket) => socket.end(), "it ends it"],
    [
      "writes and ends",
      (socket: Socket) => socket.end("HTTP/1.1 400 Bad Request\r\n\r\n"),
      `it says "HTTP/1.1 400`
    ],
    ["destroys", (socket: Socket) => socket.destroy(), "it ends it"],
    ["destroys with error", (socket: Socket) => socket.destroy(new Error("nobody")), "it ends it"],
    ["destroys soon", (socket: Socket) => socket.destroySoon(), ""],
    ["pipes", (socket: Socket) => Readable.from(["theirs"]).pipe(socket), "it pipes into it"],
    [
      "upgrades with ws",
      (socket: Socket, request: IncomingMessage) =>
        new WebSocketServer({ noServer: true }).handleUpgrade(
          request,
          socket,
          Buffer.alloc(0),
          () => {}
        ),
      "it ends it"
    ]
  ] as const
  for (const [what, act, did] of late) {
    it.live.each([false, true])(
      `a listener that ${what} our socket later, ${did === "" ? "is not heard" : "is named once"}, and does no harm; with TLS: %s`,
      (secure) => {
        const theirs: Array<() => unknown> = []
        const other: Other = (server) =>
          Effect.sync(() => {
            server.on("upgrade", (request, socket) => {
              theirs.push(() => act(socket as Socket, request))
            })
          })
        return beside(
          { first: "ours", other },
          ({ lines, port }) =>
            Effect.gen(function* () {
              const url = `${secure ? "wss" : "ws"}://127.0.0.1:${port}/realtime`
              const tls = secure ? keyed : {}
              const wires = [yield* greet(url, { tls }), yield* greet(url, { tls })]
              for (const answer of theirs) answer()
              for (const [n, wire] of wires.entries()) {
                wire.send({ type: "subscribe", id: n, channel: "orders" })
                yield* wire.next("subscribed")
                wire.socket.close(4999)
                expect(yield* wire.closed).toBe(4999)
              }
              expect(lines).toEqual(did === "" ? [] : [expect.stringContaining(`(${did}`)])
              for (const line of lines) expect(line).toContain("noServer")
            }),
          secure ? tlsMade : undefined
        )
      }
    )
  }

  /** A listener that only keeps the sockets. */
  const keeping =
    (sockets: Array<Socket>): Other =>
    (server) =>
      Effect.sync(() => {
        server.on("upgrade", (_, socket) => sockets.push(socket as Socket))
      })

  it.effect.each(["when the server closes", "more than 10 s later"])(
    "a listener that destroys our sockets %s is not named",
    (when) => {
      const open: Array<Socket> = []
      return beside({ first: "ours", other: keeping(open) }, ({ lines, server, ws }) =>
        Effect.gen(function* () {
          const wire = yield* greet(`${ws}/realtime`)
          if (when.includes("later")) yield* TestClock.adjust("11 seconds")
          else server.close()
          for (const socket of open) socket.destroy()
          expect(yield* wire.closed).toBe(1006)
          expect(lines).toEqual([])
        })
      )
    }
  )

  it.live.each([false, true])("a listener keeps no closing socket open; with TLS: %s", (secure) => {
    const open: Array<Socket> = []
    return beside(
      { first: "ours", other: keeping(open) },
      ({ lines, port, server }) =>
        Effect.gen(function* () {
          const url = `${secure ? "wss" : "ws"}://127.0.0.1:${port}/realtime`
          const tls = secure ? keyed : {}
          const beneath = (socket: WebSocket) =>
            (socket as unknown as { readonly _socket: Socket })._socket
          const ways = [
            (socket: WebSocket) => socket.close(),
            (socket: WebSocket) => socket.terminate(),
            (socket: WebSocket) => beneath(socket).end(),
            // Only TCP has a reset.
            ...(secure ? [] : [(socket: WebSocket) => beneath(socket).resetAndDestroy()])
          ]
          for (const leave of ways) leave((yield* greet(url, { tls })).socket)
          yield* Effect.forEach(open, (socket) =>
            Effect.callback<void>((resume) => {
              if (socket.destroyed) resume(Effect.void)
              else socket.once("close", () => resume(Effect.void))
            })
          )
          expect(open).toHaveLength(ways.length)
          yield* Effect.callback<void>((resume) => void server.close(() => resume(Effect.void)))
          expect(lines).toEqual([])
        }),
      secure ? tlsMade : undefined
    )
  })

  it.live("a listener that answers before ours spoils the upgrade, and is named", () =>
    beside(
      {
        first: "ours",
        other: (server) =>
          Effect.sync(() =>
            server.prependListener("upgrade", (_, socket) =>
              socket.end("HTTP/1.1 400 Bad Request\r\n\r\n")
            )
          )
      },
      ({ lines, ws }) =>
        Effect.gen(function* () {
          expect((yield* Effect.flip(connect(`${ws}/realtime`))).status).toBe(400)
          expect(lines).toEqual([expect.stringContaining("(it was first)")])
        })
    )
  )

  it.live("a listener that answers our upgrades is named in an Effect app too", () => {
    const lines: Array<string> = []
    const wss = new WebSocketServer({ noServer: true, path: "/other" })
    return Effect.gen(function* () {
      const { ws } = yield* App.Address
      yield* Effect.result(connect(ws))
      yield* Effect.result(connect(ws))
      expect(lines).toEqual([expect.stringContaining("noServer")])
    }).pipe(
      Effect.scoped,
      Effect.provide(
        App.layer(options, undefined, () =>
          createServer().on("upgrade", (request, socket, head) =>
            wss.handleUpgrade(request, socket, head, () => {})
          )
        )
      ),
      Effect.provide(logInto(lines))
    )
  })
})

describe("A listener that keeps to its paths", () => {
  it.live.each(orders)(
    "a noServer WebSocketServer works beside ours with %s first, and nothing is logged",
    (first) =>
      beside({ first, other: wsWithoutServer }, ({ lines, ws }) =>
        Effect.gen(function* () {
          yield* greet(`${ws}/realtime`)
          expect(yield* theirs(ws)).toBe(4999)
          expect(lines).toEqual([])
        })
      )
  )

  it.live.each(orders)(
    "the Vite dev server works beside ours with %s first, and nothing is logged",
    (first) =>
      beside(
        {
          first,
          other: (server) =>
            Effect.acquireRelease(
              Effect.promise(() =>
                createVite({
                  configFile: false,
                  logLevel: "silent",
                  appType: "custom",
                  server: { middlewareMode: true, hmr: { server } }
                })
              ),
              (vite) => Effect.promise(() => vite.close())
            )
        },
        ({ lines, ws }) =>
          Effect.gen(function* () {
            const wire = yield* greet(`${ws}/realtime`)
            wire.send({ type: "subscribe", id: 1, channel: "orders" })
            yield* wire.next("subscribed")
            const vite = yield* Effect.result(connect(ws, { protocols: ["vite-ping"] }))
            expect(vite._tag).toBe("Success")
            expect(lines).toEqual([])
          })
      )
  )
})

describe("An upgrade that no listener answers", () => {
  /** A client that requests a path and then waits. */
  const asks = (port: number, path: string, secure = false) =>
    Effect.acquireRelease(
      Effect.callback<{ readonly gone: Effect.Effect<void>; readonly received: () => string }>(
        (resume) => {
          let received = ""
          const gone: PromiseWithResolvers<void> = Promise.withResolvers()
          const open = () => {
            socket.write(handshake(path))
            resume(
              Effect.succeed({ gone: Effect.promise(() => gone.promise), received: () => received })
            )
          }
          const socket: Socket = secure
            ? tls({ ...keyed, port, host: "127.0.0.1" }, open)
            : tcp({ port, host: "127.0.0.1", allowHalfOpen: true }, open)
          socket.on("data", (data: Buffer) => {
            received += data.toString("latin1")
          })
          socket.on("error", () => gone.resolve())
          socket.on("end", () => gone.resolve())
          closes.push(() => socket.destroy())
        }
      ),
      () => Effect.sync(() => closes.splice(0).forEach((close) => close()))
    )
  const closes: Array<() => void> = []

  /** Waits until `count` upgrades have arrived. */
  const arrived = (server: Server, count: number) => {
    let seen = 0
    return Effect.callback<void>((resume) => {
      server.on("upgrade", () => {
        if (++seen === count) setImmediate(() => resume(Effect.void))
      })
    })
  }

  it.effect.each([300, 1, 7])(
    "upgrades that no listener answers get 404 after 10 s, and are counted: %s of them",
    (count) =>
      beside({ first: "theirs", other: wsWithoutServer }, ({ port, server }) =>
        Effect.gen(function* () {
          const before = yield* refusals("upgrade-untaken")
          const all = yield* Effect.forkChild(arrived(server, count), { startImmediately: true })
          const peers = yield* Effect.forEach(
            Array.from({ length: count }),
            () => asks(port, "/nobody"),
            { concurrency: 50 }
          )
          yield* Effect.promise(() => new Promise((done) => all.addObserver(done)))
          yield* TestClock.adjust("9 seconds")
          expect(peers.map(({ received }) => received()).join("")).toBe("")
          yield* TestClock.adjust("2 seconds")
          for (const { gone } of peers) yield* gone
          expect(peers.every(({ received }) => received().startsWith("HTTP/1.1 404 "))).toBe(true)
          expect(yield* refusals("upgrade-untaken")).toBe(before + count)
          yield* Effect.callback<void>((resume) => {
            server.close(() => resume(Effect.void))
          })
        })
      )
  )

  it.effect.each([false, true])("an upgrade another listener takes stays; TLS: %s", (secure) => {
    const taken: Array<Socket> = []
    const quiet: Other = (server) =>
      Effect.sync(() => {
        server.on("upgrade", (request, socket) => {
          taken.push(socket as Socket)
          // One listener answers and sends no more, one only reads.
          if (request.url === "/answers") socket.write("HTTP/1.1 101 Switching Protocols\r\n\r\n")
          else socket.on("data", () => {})
        })
      })
    const made = secure ? tlsMade : () => createServer()
    return beside(
      { first: "theirs", other: quiet },
      ({ port, server }) =>
        Effect.gen(function* () {
          const all = yield* Effect.forkChild(arrived(server, 2), { startImmediately: true })
          yield* asks(port, "/answers", secure)
          yield* asks(port, "/listens", secure)
          yield* Effect.promise(() => new Promise((done) => all.addObserver(done)))
          yield* TestClock.adjust("60 seconds")
          expect(taken.map((socket) => socket.writableEnded || socket.destroyed)).toEqual([
            false,
            false
          ])
        }),
      made
    )
  })

  it.effect("an unanswered upgrade gets 404 although the server has closed meanwhile", () =>
    Effect.gen(function* () {
      const server = createServer().on("upgrade", () => {})
      yield* Effect.callback<void>((resume) => {
        server.listen(0, "127.0.0.1", () => resume(Effect.void))
      })
      const doors = yield* Scope.make()
      yield* Effect.flatMap(Door.make(options), (door) => attach(door, server)).pipe(
        Effect.provide(Realtime.layer().pipe(Layer.provideMerge(MemorySource.layer))),
        Scope.provide(doors)
      )
      const all = yield* Effect.forkChild(arrived(server, 1), { startImmediately: true })
      const peer = yield* asks((server.address() as AddressInfo).port, "/nobody")
      yield* Effect.promise(() => new Promise((done) => all.addObserver(done)))
      yield* Scope.close(doors, Exit.void)
      expect(server.listenerCount("upgrade")).toBe(2)
      yield* TestClock.adjust("11 seconds")
      yield* peer.gone
      expect(peer.received()).toMatch(/^HTTP\/1\.1 404 /)
      yield* Effect.callback<void>((resume) => {
        server.close(() => resume(Effect.void))
      })
    }).pipe(Effect.scoped)
  )
})

describe("The spelling of the path", () => {
  const spelt = [
    ["/realtime", "/realtime/"],
    ["/realtime", "/realtime/?room=1"],
    ["/live/", "/live"],
    ["/live/", "/live/"],
    ["/", "/"]
  ] as const
  it.live.each(spelt)("the path %s matches %s beside a plain server", ([path, asked]) =>
    beside(
      { first: "ours", other: () => Effect.void },
      ({ ws }) => greet(`${ws}${asked}`),
      undefined,
      { path }
    )
  )

  it.live.each(spelt.slice(0, 4))("the path %s matches %s in an Effect app", ([path, asked]) =>
    Effect.gen(function* () {
      const { http } = yield* App.Address
      yield* greet(`${http.replace("http", "ws")}${asked}`)
    }).pipe(Effect.scoped, Effect.provide(App.layer({ ...options, path })))
  )

  it.live.each(["/realtime//", "/realtime/x", "/Realtime", "/"])("/realtime is not %s", (asked) =>
    beside({ first: "ours", other: () => Effect.void }, ({ ws }) =>
      Effect.map(Effect.flip(connect(`${ws}${asked}`)), ({ status }) => expect(status).toBe(404))
    )
  )
})
