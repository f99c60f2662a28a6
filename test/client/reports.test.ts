/** What a client reports without a listener that asked: of a stop one line, of a close nothing. */
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Exit, Layer, Logger, Scope } from "effect"
import { TestClock } from "effect/testing"
import { Channel } from "effect-realtime"
import { createRealtimeClient, PlainClient, RealtimeClient } from "effect-realtime/client"
import * as FakeSocket from "./support/FakeSocket.ts"

/** What reaches the platform as an uncaught error, and the log. */
const reports = Effect.gen(function* () {
  const uncaught: Array<unknown> = []
  const lines: Array<unknown> = []
  yield* Effect.acquireRelease(
    Effect.sync(() => {
      const before = globalThis.reportError
      globalThis.reportError = (error) => void uncaught.push(error)
      return before
    }),
    (before) =>
      Effect.sync(() => {
        globalThis.reportError = before
      })
  )
  const logger = Logger.layer([Logger.make(({ message }) => void lines.push(message))])
  return { uncaught, lines, logger }
})

const make = Effect.fnUntraced(function* () {
  const server = FakeSocket.make({ auto: true })
  const { lines, logger, uncaught } = yield* reports
  const scope = yield* Scope.make()
  const layer = RealtimeClient.layer({
    url: "ws://host/realtime",
    webSocket: server.webSocket
  })
  const context = yield* Layer.buildWithScope(Layer.provideMerge(layer, logger), scope)
  const client = Context.get(context, RealtimeClient.RealtimeClient)
  return { client, close: Scope.close(scope, Exit.void), lines, server, uncaught }
})

const listen = (plain: PlainClient.PlainClient, listeners: number) => {
  for (let n = 0; n < listeners; n++) plain.listen(Channel.untyped(`room_${n % 3}`), () => {})
}

describe("a client in an Effect application", () => {
  it.effect("that ends while plain listeners are there is quiet", () =>
    Effect.gen(function* () {
      const { client, close, lines, uncaught } = yield* make()
      const plain = PlainClient.fromClient(client)
      listen(plain, 5)
      yield* TestClock.adjust(10)
      assert.strictEqual(plain.connection.getSnapshot().status, "open")
      yield* close
      yield* TestClock.adjust(1000)
      const { message, reason, status } = plain.connection.getSnapshot()
      assert.deepStrictEqual(
        [status, reason, message],
        ["stopped", "closed", "The client was closed"]
      )
      // Also for listeners that join afterwards.
      listen(plain, 2)
      yield* TestClock.adjust(1000)
      assert.deepStrictEqual([uncaught, lines], [[], []])
    })
  )

  it.effect("that the server stops is one line in the log", () =>
    Effect.gen(function* () {
      const { client, close, lines, server, uncaught } = yield* make()
      listen(PlainClient.fromClient(client), 5)
      yield* TestClock.adjust(10)
      server.last.drop(4202, "The server does not let the client in")
      yield* TestClock.adjust(1000)
      yield* close
      assert.deepStrictEqual(uncaught, [])
      assert.deepStrictEqual(lines, [
        [
          "The connection stopped (4202: The server does not let the client in). Call reconnect when the cause is gone."
        ]
      ])
    })
  )

  it.effect("whose server rejects the hello for now is one line in the log", () =>
    Effect.gen(function* () {
      const { client, lines, server, uncaught } = yield* make()
      server.heard = (socket, frame) => {
        if (frame.type !== "hello") return
        const refusal = { code: "server/internal", message: "Later.", retry: "later" } as const
        socket.say({ type: "error", ...refusal })
        socket.drop(1011, "The server failed: authenticate failed")
      }
      listen(PlainClient.fromClient(client), 5)
      yield* TestClock.adjust("20 seconds")
      assert.isAbove(server.sockets.length, 2)
      assert.deepStrictEqual([uncaught, lines], [[], [["Later."]]])
    })
  )

  it.effect("tells a listener that asks of the end in either case", () =>
    Effect.gen(function* () {
      const { client, close } = yield* make()
      const errors: Array<unknown> = []
      PlainClient.fromClient(client).listen(Channel.untyped("a"), () => {}, {
        onError: (error) => errors.push((error as { readonly _tag: string })._tag)
      })
      yield* TestClock.adjust(10)
      yield* close
      yield* TestClock.adjust(10)
      assert.deepStrictEqual(errors, ["ConnectionStopped"])
    })
  )
})

describe("a plain client", () => {
  it.effect("that its page closes is quiet", () =>
    Effect.gen(function* () {
      const { lines, uncaught } = yield* reports
      const { webSocket } = FakeSocket.make({ auto: true })
      const errors: Array<unknown> = []
      const plain = createRealtimeClient({
        url: "ws://host/realtime",
        webSocket,
        onError: (error) => errors.push(error)
      })
      listen(plain, 3)
      yield* Effect.promise(() => plain.close())
      listen(plain, 1)
      yield* Effect.promise(() => new Promise((resolve) => setTimeout(resolve, 5)))
      assert.deepStrictEqual([uncaught, lines, errors], [[], [], []])
    })
  )

  it.effect("still reports what a channel refuses, and what a handler throws", () =>
    Effect.gen(function* () {
      const { uncaught } = yield* reports
      const server = FakeSocket.make({ auto: true })
      const plain = createRealtimeClient({
        url: "ws://host/realtime",
        webSocket: server.webSocket
      })
      yield* Effect.addFinalizer(() => Effect.promise(() => plain.close()))
      server.heard = (socket, frame) => {
        if (frame.type !== "subscribe" || frame.channel !== "secret") {
          return server.answer(socket, frame)
        }
        const refusal = { code: "channel/forbidden", message: "No.", retry: "never" } as const
        socket.say({ type: "error", id: frame.id, ...refusal })
      }
      plain.listen("secret", () => {})
      plain.listen("open", () => {
        throw new Error("a bug of the page")
      })
      yield* Effect.promise(async () => {
        while (server.last?.of("subscribe").length !== 2) {
          // oxlint-disable-next-line no-await-in-loop -- each look follows a wait
          await new Promise((resolve) => setTimeout(resolve, 1))
        }
      })
      server.last.say(FakeSocket.events("open", 1, 1))
      assert.deepStrictEqual(
        uncaught.map((error) => (error as Error).message),
        ["No.", "a bug of the page"]
      )
    })
  )
})
