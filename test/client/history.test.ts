/** A client asks for pages of what a channel had before. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Schema } from "effect"
import { TestClock } from "effect/testing"
import { Channel } from "effect-realtime"
import { createRealtimeClient } from "effect-realtime/client"
import type { ClientFrame, FrameOf, ServerFrame, WireEvent } from "../../src/Frame.ts"
import * as Client from "./support/client.ts"
import * as FakeSocket from "./support/FakeSocket.ts"

const Notes = Channel.make("notes", Schema.Finite, { delivery: "durable" })
const Rooms = Channel.family("room_", Schema.String, Schema.Finite)

const at = "2026-11-22T00:00:00.000Z"
const events = (...numbers: ReadonlyArray<number>): ReadonlyArray<WireEvent> =>
  numbers.map((n) => ({ id: String(n), at, data: n, tx: "7" }))

/** A server that has the events 1 to 100, and a client of it. */
const opened = Effect.gen(function* () {
  const server = FakeSocket.make({ auto: true })
  const page = ({ before = "101", channel, id, limit }: FrameOf<ClientFrame, "history">) => {
    const end = Number(before)
    const from = Math.max(1, end - limit)
    const numbers = Array.from({ length: end - from }, (_, index) => from + index)
    server.last.say({ type: "history", id, channel, events: events(...numbers), more: from > 1 })
  }
  const healthy: typeof server.heard = (socket, frame) =>
    frame.type === "history" ? page(frame) : server.answer(socket, frame)
  server.heard = healthy
  const client = yield* Client.make(server)
  const sent = () => server.sent.flatMap((frame) => (frame.type === "history" ? [frame] : []))
  return { client, server, sent, page, healthy }
})

describe("RealtimeClient.history", () => {
  it.effect("asks for a page over a socket that it opens for it, 50 events by default", () =>
    Effect.gen(function* () {
      const { client, sent } = yield* opened
      const newest = yield* client.history(Notes)
      assert.deepStrictEqual(
        newest.events.map(({ payload }) => payload),
        Array.from({ length: 50 }, (_, n) => 51 + n)
      )
      assert.deepStrictEqual(newest.events[0], {
        _tag: "Event",
        channel: "notes",
        id: "51",
        at: new Date(at),
        payload: 51,
        cursor: undefined,
        tx: "7"
      })
      assert.isTrue(newest.more)
      const first = yield* client.history(Notes, { before: "4", limit: 3 })
      assert.deepStrictEqual(
        first.events.map(({ id }) => id),
        ["1", "2", "3"]
      )
      assert.isFalse(first.more)
      assert.deepStrictEqual(
        sent().map(({ before, limit }) => [before, limit]),
        [
          [undefined, 50],
          ["4", 3]
        ]
      )
    })
  )

  it.effect("leaves out what the channel's own schema rejects", () =>
    Effect.gen(function* () {
      const { client, server } = yield* opened
      server.heard = (socket, frame) => {
        if (frame.type !== "history") return server.answer(socket, frame)
        const { channel, id } = frame
        const [first, last] = events(1, 3)
        const wrong = { id: "2", at, data: "two" }
        socket.say({ type: "history", id, channel, events: [first!, wrong, last!], more: true })
      }
      const { events: read, more } = yield* client.history(Notes)
      assert.deepStrictEqual([read.map(({ payload }) => payload), more], [[1, 3], true])
    })
  )

  it.effect("waits while the link is away, and asks again what was not answered", () =>
    Effect.gen(function* () {
      const { client, healthy, sent, server } = yield* opened
      server.heard = (socket, frame) => {
        if (frame.type === "hello") server.answer(socket, frame)
      }
      const reading = yield* Effect.forkChild(client.history(Notes, { limit: 2 }))
      yield* TestClock.adjust(1)
      assert.strictEqual(sent().length, 1)
      server.last.drop()
      server.heard = healthy
      yield* TestClock.adjust("3 seconds")
      const { events: read } = yield* Fiber.join(reading)
      assert.deepStrictEqual(
        read.map(({ id }) => id),
        ["99", "100"]
      )
      assert.strictEqual(sent().length, 2)
    })
  )

  it.effect(
    "asks again after what the server rejects for now, and fails with what it rejects for good",
    () =>
      Effect.gen(function* () {
        const { client, healthy, sent, server } = yield* opened
        const reject = (fields: Omit<FrameOf<ServerFrame, "error">, "type" | "id" | "message">) => {
          server.heard = (socket, frame) =>
            frame.type === "history"
              ? socket.say({ type: "error", id: frame.id, message: "No.", ...fields })
              : server.answer(socket, frame)
        }
        reject({ code: "rate/limited", retry: "later", retryAfter: 700 })
        const reading = yield* Effect.forkChild(client.history(Notes, { limit: 1 }))
        yield* TestClock.adjust(1)
        server.heard = healthy
        yield* TestClock.adjust(690)
        assert.strictEqual(sent().length, 1)
        yield* TestClock.adjust(10)
        assert.strictEqual((yield* Fiber.join(reading)).events[0]!.id, "100")
        assert.strictEqual(sent().length, 2)
        reject({ code: "channel/forbidden", retry: "never" })
        const error = yield* Effect.flip(client.history(Notes))
        assert.deepInclude(error, { _tag: "Refused", channel: "notes", code: "channel/forbidden" })
      })
  )

  it.effect("has two requests unanswered at most, and one that is given up is not sent", () =>
    Effect.gen(function* () {
      const { client, page, sent, server } = yield* opened
      server.heard = (socket, frame) => {
        if (frame.type !== "history") server.answer(socket, frame)
      }
      const read = (limit: number) => Effect.forkChild(client.history(Notes, { limit }))
      const [one, two, three, four] = yield* Effect.all([read(1), read(2), read(3), read(4)])
      yield* TestClock.adjust(1)
      const limits = () => sent().map(({ limit }) => limit)
      assert.deepStrictEqual(limits(), [1, 2])
      yield* Fiber.interrupt(three)
      page(sent()[1]!)
      assert.strictEqual((yield* Fiber.join(two)).events.length, 2)
      assert.deepStrictEqual(limits(), [1, 2, 4])
      page(sent()[0]!)
      page(sent()[2]!)
      assert.strictEqual((yield* Fiber.join(one)).events.length, 1)
      assert.strictEqual((yield* Fiber.join(four)).events.length, 4)
    })
  )

  it.effect("fails when the connection has stopped, and for a name that is no channel's", () =>
    Effect.gen(function* () {
      const { client, server } = yield* opened
      const bad = yield* Effect.flip(client.history(Rooms("a b")))
      assert.strictEqual(bad._tag, "InvalidChannelName")
      yield* client.history(Notes)
      server.heard = () => {}
      const reading = yield* Effect.forkChild(client.history(Notes))
      yield* TestClock.adjust(1)
      server.last.drop(4202)
      assert.strictEqual((yield* Effect.flip(Fiber.join(reading)))._tag, "ConnectionStopped")
      assert.strictEqual((yield* Effect.flip(client.history(Notes)))._tag, "ConnectionStopped")
    })
  )
})

it("the history of a client without Effect is a promise", async () => {
  const server = FakeSocket.make({ auto: true })
  const client = createRealtimeClient({ url: "ws://x", webSocket: server.webSocket })
  assert.deepStrictEqual(await client.history(Notes), { events: [], more: false })
  assert.deepStrictEqual(await client.history("anything", { limit: 1 }), {
    events: [],
    more: false
  })
  await client.close()
  const error = await client.history(Notes).catch((error: unknown) => error)
  assert.deepInclude(error, { _tag: "ConnectionStopped" })
})
