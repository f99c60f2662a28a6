/** A client publishes to volatile channels: at once or not at all, the newest of each key. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Latch, Stream } from "effect"
import * as Schema from "effect/Schema"
import { TestClock } from "effect/testing"
import { Channel } from "effect-realtime"
import { createRealtimeClient } from "effect-realtime/client"
import * as Client from "./support/client.ts"
import * as FakeSocket from "./support/FakeSocket.ts"

const Pointer = Schema.Struct({ user: Schema.String, x: Schema.Finite })
const Pointers = Channel.make("pointers", Pointer, {
  delivery: "volatile",
  publish: true,
  latestBy: "user"
})
const Typing = Channel.make("typing", Schema.Boolean, { delivery: "volatile", publish: true })
const Notes = Channel.make("notes", Pointer, { publish: true })

/** Publishes, and returns what became of it where it is known at once. */
const publish = (client: Client.Client, x: number, user = "ann") =>
  Effect.forkChild(client.publish(Pointers, { user, x }), { startImmediately: true })

/** A client with an open connection, and what it has published. */
const opened = (options?: Parameters<typeof FakeSocket.make>[0]) =>
  Effect.gen(function* () {
    const server = FakeSocket.make({ auto: true, ...options })
    const client = yield* Client.make(server)
    yield* client.publish(Notes, { user: "ann", x: 0 })
    const sent = () =>
      server.sent.flatMap((frame) =>
        frame.type === "publish" && frame.channel !== "notes" ? [frame] : []
      )
    return { client, server, sent, data: () => sent().map(({ data }) => data) }
  })

describe("A volatile publish", () => {
  it.effect("is one frame without a key and without a time, and succeeds with the answer", () =>
    Effect.gen(function* () {
      const { client, sent } = yield* opened()
      const outcome: "published" | "dropped" = yield* client.publish(Pointers, {
        user: "ann",
        x: 1
      })
      assert.strictEqual(outcome, "published")
      // A key is ignored, also one that would be none elsewhere.
      yield* TestClock.adjust("1 second")
      const keyed = client.publish(Pointers, { user: "ann", x: 1 }, { key: "" })
      assert.strictEqual(yield* keyed, "published")
      const [first, second] = sent()
      assert.deepStrictEqual(second, { ...first, id: second!.id })
      assert.deepStrictEqual(sent().slice(0, 1), [
        { type: "publish", id: sent()[0]!.id, channel: "pointers", data: { user: "ann", x: 1 } }
      ])
    })
  )

  it.effect("is dropped at once while the link is away, and not sent later", () =>
    Effect.gen(function* () {
      const { client, data, server } = yield* opened()
      server.last.drop()
      assert.strictEqual(yield* client.publish(Pointers, { user: "ann", x: 1 }), "dropped")
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual(server.sockets.length, 2)
      assert.deepStrictEqual(data(), [])
      assert.strictEqual(yield* client.publish(Pointers, { user: "ann", x: 2 }), "published")
      assert.deepStrictEqual(data(), [{ user: "ann", x: 2 }])
    })
  )

  it.effect("is dropped if the link is lost before the answer", () =>
    Effect.gen(function* () {
      const { client, data, server } = yield* opened()
      server.heard = () => {}
      const sent = yield* publish(client, 1)
      const waits = yield* publish(client, 2)
      server.last.drop()
      server.heard = server.answer
      assert.strictEqual(yield* Fiber.join(sent), "dropped")
      assert.strictEqual(yield* Fiber.join(waits), "dropped")
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(data(), [{ user: "ann", x: 1 }])
    })
  )

  it.effect("opens a connection that nothing else needs, and keeps it for 30 s", () =>
    Effect.gen(function* () {
      const server = FakeSocket.make({ auto: true })
      const client = yield* Client.make(server)
      assert.strictEqual(yield* client.publish(Typing, true), "dropped")
      yield* TestClock.adjust("20 seconds")
      assert.strictEqual(yield* client.publish(Typing, true), "published")
      yield* TestClock.adjust("29 seconds")
      assert.strictEqual(server.last.readyState, 1)
      yield* TestClock.adjust("3 seconds")
      assert.strictEqual(server.last.readyState, 2)
      assert.strictEqual(server.sockets.length, 1)
    })
  )

  it.effect("leaves as fast as the server announced, the newest of each key", () =>
    Effect.gen(function* () {
      const { client, data } = yield* opened()
      const first = yield* publish(client, 0)
      const replaced = yield* publish(client, 1)
      const bob = yield* publish(client, 1, "bob")
      const newest = yield* publish(client, 2)
      assert.strictEqual(yield* Fiber.join(first), "published")
      assert.strictEqual(yield* Fiber.join(replaced), "dropped")
      assert.deepStrictEqual(data(), [{ user: "ann", x: 0 }])
      yield* TestClock.adjust(17)
      assert.strictEqual(yield* Fiber.join(newest), "published")
      yield* TestClock.adjust(17)
      assert.strictEqual(yield* Fiber.join(bob), "published")
      assert.deepStrictEqual(data().slice(1), [
        { user: "ann", x: 2 },
        { user: "bob", x: 1 }
      ])
      // A page that moves its pointer for a second.
      for (let x = 3; x <= 1000; x++) {
        yield* publish(client, x)
        yield* TestClock.adjust(1)
      }
      yield* TestClock.adjust(20)
      assert.isAtMost(data().length, 63)
      assert.isAtLeast(data().length, 57)
      assert.deepStrictEqual(data().at(-1), { user: "ann", x: 1000 })
    })
  )

  it.effect("is dropped when 1,000 newer keys wait", () =>
    Effect.gen(function* () {
      const { client, data } = yield* opened()
      yield* publish(client, 0, "first")
      const oldest = yield* publish(client, 0, "oldest")
      const next = yield* publish(client, 1, "next")
      for (let n = 1; n < 999; n++) yield* publish(client, 0, `user ${n}`)
      assert.isUndefined(oldest.pollUnsafe())
      yield* publish(client, 0, "one more")
      yield* publish(client, 2, "next")
      assert.strictEqual(yield* Fiber.join(oldest), "dropped")
      assert.strictEqual(yield* Fiber.join(next), "dropped")
      yield* TestClock.adjust(17)
      assert.deepStrictEqual(data(), [
        { user: "first", x: 0 },
        { user: "next", x: 2 }
      ])
    })
  )

  it.effect("without latestBy counts for its channel", () =>
    Effect.gen(function* () {
      const { client, sent } = yield* opened()
      for (const isTyping of [true, true, false]) {
        yield* Effect.forkChild(client.publish(Typing, isTyping), { startImmediately: true })
        yield* publish(client, 1)
      }
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(
        sent().map(({ channel, data }) => [channel, data]),
        [
          ["typing", true],
          ["pointers", { user: "ann", x: 1 }],
          ["typing", false]
        ]
      )
    })
  )

  it.effect("is dropped where the server says later, and fails where it says never", () =>
    Effect.gen(function* () {
      const { client, server } = yield* opened()
      let code = "rate/limited"
      server.heard = (socket, frame) => {
        if (frame.type !== "publish") return server.answer(socket, frame)
        const retry = code === "rate/limited" ? "later" : "never"
        socket.say({ type: "error", id: frame.id, code, message: code, retry })
      }
      assert.strictEqual(yield* client.publish(Pointers, { user: "ann", x: 1 }), "dropped")
      code = "publish/forbidden"
      yield* TestClock.adjust("1 second")
      const error = yield* Effect.flip(client.publish(Pointers, { user: "ann", x: 2 }))
      assert.strictEqual(error._tag, "Refused")
      yield* TestClock.adjust("1 second")
      const invalid = { user: "ann", x: Number.NaN }
      assert.strictEqual(
        (yield* Effect.flip(client.publish(Pointers, invalid)))._tag,
        "InvalidPayload"
      )
      const large = { user: "x".repeat(70_000), x: 1 }
      assert.strictEqual(
        (yield* Effect.flip(client.publish(Pointers, large)))._tag,
        "PayloadTooLarge"
      )
    })
  )

  it.effect(
    "holds at most 24 unanswered, so that the server's limit of requests is never reached",
    () =>
      Effect.gen(function* () {
        const { client, data, server } = yield* opened()
        server.heard = () => {}
        for (let x = 0; x < 60; x++) {
          yield* publish(client, x)
          yield* TestClock.adjust(17)
        }
        assert.strictEqual(data().length, 24)
        server.heard = server.answer
        for (const { id } of server.last.of("publish")) server.last.say({ type: "published", id })
        assert.deepStrictEqual(data().at(-1), { user: "ann", x: 59 })
      })
  )

  it.effect("is taken back when its fiber is interrupted before it is sent", () =>
    Effect.gen(function* () {
      const { client, data } = yield* opened()
      yield* publish(client, 0)
      yield* Fiber.interrupt(yield* publish(client, 1))
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(data(), [{ user: "ann", x: 0 }])
    })
  )

  it.live("of a plain client resolves with dropped, also after the client was closed", () =>
    Effect.gen(function* () {
      const server = FakeSocket.make()
      const client = createRealtimeClient({
        url: "ws://host/realtime",
        webSocket: server.webSocket,
        signals: () => () => {}
      })
      const publish = () => client.publish(Typing, true)
      assert.strictEqual(yield* Effect.promise(publish), "dropped")
      yield* Effect.promise(() => client.close())
      assert.strictEqual(yield* Effect.promise(publish), "dropped")
    })
  )
})

describe("A listener of a volatile channel", () => {
  it.effect("is active after subscribed, and receives no gap after a reconnect", () =>
    Effect.gen(function* () {
      const server = FakeSocket.make({ auto: true })
      server.heard = (socket, frame) => {
        if (frame.type !== "subscribe") return server.answer(socket, frame)
        const { channel, id } = frame
        socket.say({ type: "subscribed", id, channel, state: "fresh" })
      }
      const client = yield* Client.make(server)
      const told: Array<unknown> = []
      client.sync.listen(Pointers, {
        onEvents: (batch) =>
          told.push(...batch.map((one) => (one._tag === "Event" ? one.payload : one.reason))),
        onCursor: (cursor) => told.push(`active ${cursor}`),
        onInactive: () => told.push("away"),
        onEnd: (error) => told.push(error._tag)
      })
      const say = (x: number) => {
        const { cursor: _, ...frame } = FakeSocket.events("pointers", x, { user: "ann", x })
        server.last.say(frame)
      }
      yield* TestClock.adjust("1 second")
      say(1)
      assert.strictEqual(client.sync.last(Pointers)?.cursor, undefined)
      server.last.drop()
      yield* TestClock.adjust("5 seconds")
      say(2)
      assert.deepStrictEqual(told, [
        "active ",
        { user: "ann", x: 1 },
        "away",
        "active ",
        { user: "ann", x: 2 }
      ])
      assert.deepStrictEqual(
        server.sent.flatMap((frame) => (frame.type === "subscribe" ? [frame.cursor] : [])),
        [undefined, undefined]
      )
    })
  )

  it.effect("that is a slow Stream goes on with the newest frame, without a gap", () =>
    Effect.gen(function* () {
      const server = FakeSocket.make({ auto: true })
      server.heard = (socket, frame) => {
        if (frame.type !== "subscribe") return server.answer(socket, frame)
        const { channel, id } = frame
        socket.say({ type: "subscribed", id, channel, state: "fresh" })
      }
      const client = yield* Client.make(server, { maxStreamBuffer: 3 })
      const seen: Array<unknown> = []
      const latch = Latch.makeUnsafe(false)
      yield* client.events(Pointers).pipe(
        Stream.runForEach((event) => {
          seen.push(event._tag === "Event" ? event.payload.x : event.reason)
          return latch.await
        }),
        Effect.forkChild({ startImmediately: true })
      )
      yield* TestClock.adjust("1 second")
      for (let x = 0; x < 10; x++) {
        const { cursor: _cursor, ...frame } = FakeSocket.events("pointers", x, { user: "ann", x })
        server.last.say(frame)
        yield* Effect.yieldNow
      }
      latch.openUnsafe()
      yield* TestClock.adjust(0)
      assert.strictEqual(seen.at(-1), 9)
      assert.isBelow(seen.length, 8)
      assert.deepStrictEqual(
        seen.filter((one) => typeof one === "string"),
        []
      )
    })
  )
})
