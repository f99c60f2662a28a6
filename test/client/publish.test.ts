import { assert, describe, it } from "@effect/vitest"
import { Clock, type Duration, Effect, Exit, Fiber, Layer } from "effect"
import * as Schema from "effect/Schema"
import { TestClock } from "effect/testing"
import { Channel } from "effect-realtime"
import { PublishQueue, RealtimeClient } from "effect-realtime/client"
import * as Client from "./support/client.ts"
import { sleepy } from "./support/clock.ts"
import * as FakeSocket from "./support/FakeSocket.ts"

const Room = Channel.make("room", Schema.Struct({ n: Schema.Finite }), { publish: true })

const publishing = (client: Client.Client, n: number) =>
  Effect.forkChild(Effect.exit(client.publish(Room, { n })), { startImmediately: true })

const tagOf = (exit: Exit.Exit<unknown, { readonly _tag: string }>) =>
  Exit.match(exit, {
    onSuccess: () => "done",
    onFailure: (cause) => (cause.reasons[0] as { error: { _tag: string } }).error._tag
  })

/** A client that may publish fast to a server that answers no publish. */
const mute = (maxAge: Duration.Input) =>
  Effect.gen(function* () {
    const limits = { ...FakeSocket.welcome.limits, publishPerSecond: 1000 }
    const server = FakeSocket.make({ auto: true, welcome: { limits } })
    const client = yield* Client.make(server, { queue: { maxAge } })
    server.heard = (socket, frame) => {
      if (frame.type !== "publish") server.answer(socket, frame)
    }
    return { client, server }
  })

describe("RealtimeClient.publish", () => {
  it.effect("completes with the server's answer", () =>
    Effect.gen(function* () {
      const server = FakeSocket.make({ auto: true })
      const client = yield* Client.make(server)
      server.heard = (socket, frame) => {
        if (frame.type !== "publish") server.answer(socket, frame)
      }
      const fiber = yield* publishing(client, 1)
      yield* TestClock.adjust(5000)
      const [frame] = server.last.of("publish")
      assert.deepStrictEqual(frame, {
        type: "publish",
        id: frame!.id,
        channel: "room",
        within: 60_000,
        key: frame!.key!,
        data: { n: 1 }
      })
      assert.match(frame!.key!, /^\d+(-\d+){3}$/)
      assert.strictEqual(fiber.pollUnsafe(), undefined)
      server.last.say({ type: "published", id: frame!.id })
      assert.deepStrictEqual(yield* Fiber.join(fiber), Exit.void)
    })
  )

  it.effect("keeps messages while offline, and sends them in order", () =>
    Effect.gen(function* () {
      const server = FakeSocket.make()
      const client = yield* Client.make(server)
      const fibers = yield* Effect.forEach([1, 2, 3], (n) => publishing(client, n))
      yield* TestClock.adjust("5 seconds")
      server.heard = server.answer
      server.last.open()
      yield* Fiber.joinAll(fibers)
      assert.deepStrictEqual(
        server.last.of("publish").map(({ data }) => data),
        [{ n: 1 }, { n: 2 }, { n: 3 }]
      )
      assert.strictEqual(new Set(server.last.of("publish").map(({ key }) => key)).size, 3)
    })
  )

  it.effect("sends a message again with its key when the socket closed before the answer", () =>
    Effect.gen(function* () {
      const server = FakeSocket.make({ auto: true })
      const client = yield* Client.make(server)
      /** The database: it stores one payload per key. */
      const effects = new Map<string, unknown>()
      let answering = false
      server.heard = (socket, frame) => {
        if (frame.type === "publish") effects.set(frame.key!, frame.data)
        if (frame.type !== "publish" || answering) server.answer(socket, frame)
      }
      const fibers = yield* Effect.forEach([1, 2], (n) => publishing(client, n))
      yield* TestClock.adjust(10)
      server.last.drop(1006)
      answering = true
      yield* TestClock.adjust(2000)
      assert.deepStrictEqual(
        (yield* Fiber.joinAll(fibers)).map((exit) => tagOf(exit)),
        ["done", "done"]
      )
      const [first, second] = server.sockets.map((socket) =>
        socket.of("publish").map(({ key }) => key)
      )
      assert.deepStrictEqual(second, first)
      assert.deepStrictEqual([...effects.values()], [{ n: 1 }, { n: 2 }])
    })
  )

  it.effect("sends no faster than the publishPerSecond of the server", () =>
    Effect.gen(function* () {
      const server = FakeSocket.make()
      const client = yield* Client.make(server)
      const times: Array<number> = []
      yield* Effect.forEach(Array.from({ length: 100 }), (_, n) => publishing(client, n))
      yield* TestClock.adjust("1 second")
      let now = 0
      server.heard = (socket, frame) => {
        if (frame.type === "publish") times.push(now)
        server.answer(socket, frame)
      }
      server.last.open()
      while (times.length < 100 && now < 10_000) {
        now += 50
        yield* TestClock.adjust(50)
      }
      assert.strictEqual(times.length, 100)
      for (const [index, time] of times.entries()) {
        const within = times.slice(index).filter((other) => other < time + 1000)
        assert.isAtMost(within.length, 20)
      }
      assert.isAtMost(now, 5000)
    })
  )

  it.effect("keeps at most 32 publishes unanswered", () =>
    Effect.gen(function* () {
      const limits = { ...FakeSocket.welcome.limits, publishPerSecond: 1000 }
      const server = FakeSocket.make({ auto: true, welcome: { limits } })
      const client = yield* Client.make(server)
      server.heard = (socket, frame) => {
        if (frame.type !== "publish") server.answer(socket, frame)
      }
      yield* Effect.forEach(Array.from({ length: 50 }), (_, n) => publishing(client, n))
      yield* TestClock.adjust(10)
      assert.strictEqual(server.last.of("publish").length, 32)
      server.last.say({ type: "published", id: server.last.of("publish")[0]!.id })
      assert.strictEqual(server.last.of("publish").length, 33)
    })
  )

  it.effect("sends the messages behind unanswered messages that expired", () =>
    Effect.gen(function* () {
      const { client, server } = yield* mute("5 seconds")
      const expiring = yield* Effect.forEach(Array.from({ length: 32 }), (_, n) =>
        publishing(client, n)
      )
      yield* TestClock.adjust("4 seconds")
      const behind = yield* publishing(client, 33)
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(
        new Set((yield* Fiber.joinAll(expiring)).map((exit) => tagOf(exit))),
        new Set(["Expired"])
      )
      // They still count as unanswered until the server answers.
      assert.strictEqual(server.last.of("publish").length, 32)
      server.last.say({ type: "published", id: server.last.of("publish")[0]!.id })
      assert.strictEqual(server.last.of("publish").length, 33)
      server.last.say({ type: "published", id: server.last.of("publish")[32]!.id })
      assert.strictEqual(tagOf(yield* Fiber.join(behind)), "done")
    })
  )

  it.effect("sends the messages behind expired messages that the server never answers", () =>
    Effect.gen(function* () {
      const { client, server } = yield* mute("9 seconds")
      yield* Effect.forEach(Array.from({ length: 32 }), (_, n) => publishing(client, n))
      yield* TestClock.adjust("8 seconds")
      yield* publishing(client, 33)
      yield* TestClock.adjust("4 seconds")
      assert.deepStrictEqual(
        server.last.of("publish").map(({ data }) => data),
        [{ n: 33 }]
      )
    })
  )

  it.effect("gives up a connection that lives and gives no answer for 10 s, and sends again", () =>
    Effect.gen(function* () {
      const server = FakeSocket.make({ auto: true })
      const client = yield* Client.make(server)
      server.heard = (socket, frame) => {
        if (frame.type !== "publish") server.answer(socket, frame)
      }
      const fiber = yield* publishing(client, 1)
      yield* TestClock.adjust(9999)
      assert.strictEqual(client.sync.connection.getSnapshot().status, "open")
      yield* TestClock.adjust(2)
      const { message, reason, status } = client.sync.connection.getSnapshot()
      assert.deepStrictEqual([status, reason], ["waiting", "unanswered"])
      assert.strictEqual(message, "The server did not answer a publish within 10000 ms")
      server.heard = server.answer
      yield* TestClock.adjust(2000)
      assert.strictEqual(tagOf(yield* Fiber.join(fiber)), "done")
      const [first, second] = server.sockets.map((socket) => socket.of("publish"))
      assert.deepStrictEqual(
        second!.map(({ key }) => key),
        first!.map(({ key }) => key)
      )
      // What is left of its time.
      assert.isAtLeast(second![0]!.within!, 48_000)
      assert.isAtMost(second![0]!.within!, 50_000)
    })
  )

  it.effect("fails with Expired after 60 s offline, and never sends the message", () =>
    Effect.gen(function* () {
      const server = FakeSocket.make()
      const client = yield* Client.make(server)
      const fiber = yield* publishing(client, 1)
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(tagOf(yield* Fiber.join(fiber)), "Expired")
      yield* TestClock.adjust("2 minutes")
      assert.deepStrictEqual(server.sent, [])
    })
  )

  it.effect("fails with Expired after 60 s offline even when the clock is set back", () =>
    Effect.gen(function* () {
      const { clock, jump } = yield* sleepy
      yield* Effect.gen(function* () {
        const client = yield* Client.make(FakeSocket.make())
        const fiber = yield* publishing(client, 1)
        jump(-3_600_000)
        yield* TestClock.adjust("1 minute")
        assert.strictEqual(tagOf(yield* Fiber.join(fiber)), "Expired")
      }).pipe(Effect.provideService(Clock.Clock, clock))
    })
  )

  it.effect("fails with QueueFull when the queue is full", () =>
    Effect.gen(function* () {
      const server = FakeSocket.make()
      const client = yield* Client.make(server, { queue: { maxMessages: 100 } })
      yield* Effect.forEach(Array.from({ length: 100 }), (_, n) => publishing(client, n))
      assert.strictEqual(tagOf(yield* Effect.exit(client.publish(Room, { n: 101 }))), "QueueFull")
    })
  )

  it.effect(
    "fails with PayloadTooLarge before it queues a large message, and counts bytes of UTF-8",
    () =>
      Effect.gen(function* () {
        const server = FakeSocket.make()
        const client = yield* Client.make(server)
        const send = (text: string) =>
          Effect.exit(client.publish(Channel.untyped("room"), text)).pipe(Effect.timeoutOption(1))
        const big = yield* Effect.forkChild(send("é".repeat(33_000)))
        yield* TestClock.adjust(10)
        const exit = yield* Fiber.join(big)
        assert.strictEqual(exit._tag === "Some" && tagOf(exit.value), "PayloadTooLarge")
        const fits = yield* Effect.forkChild(send("é".repeat(32_000)))
        yield* TestClock.adjust(10)
        assert.strictEqual((yield* Fiber.join(fits))._tag, "None")
      })
  )

  it.effect("fails a queued message that is larger than the server's frameBytes", () =>
    Effect.gen(function* () {
      const limits = { ...FakeSocket.welcome.limits, frameBytes: 1000 }
      const server = FakeSocket.make({ auto: true, welcome: { limits } })
      const client = yield* Client.make(server)
      const text = "x".repeat(2000)
      const fiber = yield* Effect.forkChild(
        Effect.exit(client.publish(Channel.untyped("room"), text))
      )
      yield* TestClock.adjust(10)
      assert.strictEqual(tagOf(yield* Fiber.join(fiber)), "PayloadTooLarge")
      assert.deepStrictEqual(server.last.of("publish"), [])
    })
  )

  it.effect("sends again after retryAfter when the server answers with retry later", () =>
    Effect.gen(function* () {
      const server = FakeSocket.make({ auto: true })
      const client = yield* Client.make(server)
      let refused = false
      server.heard = (socket, frame) => {
        if (frame.type !== "publish" || refused) return server.answer(socket, frame)
        refused = true
        const code = { code: "rate/limited", message: "Too fast.", retry: "later" } as const
        socket.say({ type: "error", id: frame.id, ...code, retryAfter: 700 })
      }
      const fiber = yield* publishing(client, 1)
      yield* TestClock.adjust(699)
      assert.strictEqual(server.last.of("publish").length, 1)
      yield* TestClock.adjust(2)
      assert.strictEqual(tagOf(yield* Fiber.join(fiber)), "done")
      const [first, second] = server.last.of("publish")
      assert.strictEqual(first!.key, second!.key)
    })
  )

  it.effect("does not wait in a new session for what another one answered with retry later", () =>
    Effect.gen(function* () {
      const server = FakeSocket.make({ auto: true })
      const client = yield* Client.make(server)
      server.heard = (socket, frame) => {
        if (frame.type !== "publish") return server.answer(socket, frame)
        const code = { code: "rate/limited", message: "Too fast.", retry: "later" } as const
        socket.say({ type: "error", id: frame.id, ...code, retryAfter: 30_000 })
      }
      const first = yield* publishing(client, 1)
      yield* TestClock.adjust(10)
      server.heard = server.answer
      server.last.drop(1006)
      yield* TestClock.adjust(2000)
      const second = yield* publishing(client, 2)
      yield* TestClock.adjust(10)
      assert.deepStrictEqual(
        server.sent.flatMap((frame) => (frame.type === "publish" ? [frame.data] : [])),
        [{ n: 1 }, { n: 1 }, { n: 2 }]
      )
      assert.strictEqual(tagOf(yield* Fiber.join(first)), "done")
      assert.strictEqual(tagOf(yield* Fiber.join(second)), "done")
    })
  )

  it.effect(
    "fails with Expired, which has the last rejection, when the server says later for 60 s",
    () =>
      Effect.gen(function* () {
        const server = FakeSocket.make({ auto: true })
        const client = yield* Client.make(server)
        const code = {
          code: "source/down",
          message: "The source is down.",
          retry: "later"
        } as const
        server.heard = (socket, frame) => {
          if (frame.type !== "publish") server.answer(socket, frame)
          else socket.say({ type: "error", id: frame.id, ...code, retryAfter: 5000 })
        }
        const fiber = yield* publishing(client, 1)
        // A server that sends pings.
        for (let n = 0; n < 6; n++) {
          yield* TestClock.adjust("10 seconds")
          server.last.say({ type: "ping" })
        }
        const exit = yield* Fiber.join(fiber)
        const reason = Exit.isFailure(exit) ? exit.cause.reasons[0] : undefined
        const error = reason?._tag === "Fail" ? reason.error : undefined
        assert.strictEqual(error?._tag, "Expired")
        assert.include(error?.message, "It may have happened")
        assert.include(error?.message, "The server said last: The source is down.")
        assert.deepInclude(error && "refused" in error && error.refused, {
          code: "source/down",
          retryAfter: 5000
        })
      })
  )

  it.effect("fails with Refused when the server answers with retry never", () =>
    Effect.gen(function* () {
      const server = FakeSocket.make({ auto: true })
      const client = yield* Client.make(server)
      const refusal = { code: "publish/forbidden", message: "Not here.", retry: "never" } as const
      server.heard = (socket, frame) => {
        if (frame.type !== "publish") server.answer(socket, frame)
        else socket.say({ type: "error", id: frame.id, ...refusal })
      }
      const fiber = yield* Effect.forkChild(Effect.flip(client.publish(Room, { n: 1 })))
      yield* TestClock.adjust(10)
      const error = yield* Fiber.join(fiber)
      assert.deepInclude(error, { _tag: "Refused", channel: "room", ...refusal })
    })
  )

  it.effect("fails with ConnectionStopped after the connection stopped", () =>
    Effect.gen(function* () {
      const server = FakeSocket.make()
      const client = yield* Client.make(server)
      const fiber = yield* publishing(client, 1)
      yield* TestClock.adjust(0)
      server.last.open().drop(4202)
      yield* TestClock.adjust(0)
      assert.strictEqual(tagOf(yield* Fiber.join(fiber)), "ConnectionStopped")
      assert.strictEqual(
        tagOf(yield* Effect.exit(client.publish(Room, { n: 2 }))),
        "ConnectionStopped"
      )
    })
  )

  it.effect("fails at once for an invalid payload or channel name", () =>
    Effect.gen(function* () {
      const client = yield* Client.make(FakeSocket.make())
      const invalid = client.publish(Room, { n: Number.NaN })
      assert.strictEqual(tagOf(yield* Effect.exit(invalid)), "InvalidPayload")
      const unnamed = client.publish(Channel.untyped("a b"), 1)
      assert.strictEqual(tagOf(yield* Effect.exit(unnamed)), "InvalidChannelName")
    })
  )

  it.effect("keeps the socket until the last answer, then closes it", () =>
    Effect.gen(function* () {
      const server = FakeSocket.make({ auto: true })
      const client = yield* Client.make(server)
      const fiber = yield* publishing(client, 1)
      yield* TestClock.adjust(10)
      yield* Fiber.join(fiber)
      assert.strictEqual(server.last.closedWith, undefined)
      yield* TestClock.adjust(1000)
      assert.strictEqual(server.last.closedWith, 1000)
    })
  )

  it.effect("sends the messages that a queue of yours holds at the start", () =>
    Effect.gen(function* () {
      const server = FakeSocket.make({ auto: true })
      const queue = yield* PublishQueue.make()
      queue.add({ channel: "room", key: "kept", json: `{"n":7}`, bytes: 7 }, () => {})
      yield* Layer.build(
        RealtimeClient.layerNoDeps({ url: "ws://host/", webSocket: server.webSocket }).pipe(
          Layer.provide(Layer.succeed(PublishQueue.PublishQueue, queue))
        )
      )
      yield* TestClock.adjust(1)
      assert.deepInclude(server.last.of("publish")[0], { key: "kept", data: { n: 7 } })
      assert.strictEqual(queue.size().messages, 0)
    })
  )

  it("does not compile for a channel without publish: true", () => {
    assert.isFunction(doesNotCompile)
  })
})

const doesNotCompile = (client: Client.Client) => {
  const ReadOnly = Channel.make("read_only", Schema.String)
  // @ts-expect-error the channel is not defined with publish: true
  void client.publish(ReadOnly, "x")
  // @ts-expect-error the payload is not the channel's
  void client.publish(Room, { n: "1" })
}
