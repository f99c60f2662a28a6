/** What a client lets a program collect: its reconnects, gaps and round trips, and the trace of a publish. */
import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Schema } from "effect"
import { TestClock } from "effect/testing"
import { Channel } from "effect-realtime"
import { make } from "./support/client.ts"
import * as FakeSocket from "./support/FakeSocket.ts"

const Room = Channel.untyped("room_a")

describe("onMetric", () => {
  it.effect("receives each reconnect, gap and round trip, and what it throws harms nothing", () =>
    Effect.gen(function* () {
      const server = FakeSocket.make({ auto: true })
      const seen: Array<readonly [string, number]> = []
      const client = yield* make(server, {
        onMetric: (name, value) => {
          seen.push([name, value])
          if (name === "gap") throw new Error("the program fails")
        }
      })
      const before = globalThis.reportError
      const uncaught: Array<unknown> = []
      globalThis.reportError = (error) => void uncaught.push(error)
      yield* Effect.addFinalizer(() => Effect.sync(() => (globalThis.reportError = before)))
      const gaps: Array<string> = []
      client.sync.listen(Room, {
        onEnd: () => {},
        onEvents: (events) => {
          for (const event of events) if (event._tag === "Gap") gaps.push(event.reason)
        }
      })
      yield* TestClock.adjust(100)
      assert.deepStrictEqual(seen, [["roundTrip", 0]])
      server.last.say({ type: "gap", channel: "room_a", reason: "slow", cursor: "e:5" })
      assert.deepStrictEqual(seen.slice(1), [["gap", 1]])
      assert.deepStrictEqual(gaps, ["slow"])
      assert.strictEqual(uncaught.length, 1)
      server.last.drop()
      yield* TestClock.adjust(3000)
      assert.deepStrictEqual(
        seen.slice(2).filter(([name]) => name === "reconnect"),
        [["reconnect", 1]]
      )
    }).pipe(Effect.scoped)
  )

  /** A server that answers by itself, and a client whose measurements are kept by name. */
  const measured = Effect.gen(function* () {
    const server = FakeSocket.make({ auto: true })
    const seen = new Map<string, Array<number>>()
    const client = yield* make(server, {
      onMetric: (name, value) => {
        seen.set(name, [...(seen.get(name) ?? []), value])
      }
    })
    const of = (name: string) => seen.get(name) ?? []
    return { server, client, of, names: () => [...seen.keys()].toSorted() }
  })

  const listener = { onEnd: () => {}, onEvents: () => {} }

  it.effect("counts each of several reconnects, gaps and positions that cannot resume", () =>
    Effect.gen(function* () {
      const { client, of, server } = yield* measured
      client.sync.listen(Room, listener)
      yield* TestClock.adjust(100)
      for (let n = 0; n < 3; n++) {
        server.last.drop()
        yield* TestClock.adjust("5 seconds")
      }
      assert.strictEqual(server.sockets.length, 4)
      assert.deepStrictEqual([of("reconnect"), of("gap")], [[1, 1, 1], []])
      for (const reason of ["slow", "source"] as const) {
        server.last.say({ type: "gap", channel: "room_a", reason, cursor: "e:5" })
      }
      server.heard = (socket, frame) => {
        if (frame.type !== "subscribe") return server.answer(socket, frame)
        const { channel, id } = frame
        socket.say({ type: "subscribed", id, channel, state: "reset", cursor: "f:0" })
      }
      server.last.drop()
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual(
        [of("reconnect"), of("gap")],
        [
          [1, 1, 1, 1],
          [1, 1, 1]
        ]
      )
    }).pipe(Effect.scoped)
  )

  it.effect("says how long each answer took, and how many messages wait", () =>
    Effect.gen(function* () {
      const { client, names, of, server } = yield* measured
      const Own = Channel.make("room_a", Schema.Finite, { publish: true })
      client.sync.listen(Own, listener)
      yield* TestClock.adjust(100)
      assert.deepStrictEqual([of("roundTrip"), of("queue")], [[0], []])
      const asked: Array<number> = []
      server.heard = (socket, frame) => {
        if (frame.type === "publish") asked.push(frame.id)
        else server.answer(socket, frame)
      }
      for (let n = 0; n < 3; n++) yield* Effect.forkChild(client.publish(Own, n))
      yield* TestClock.adjust(100)
      assert.deepStrictEqual([asked.length, of("queue")], [3, [1, 2, 3]])
      for (const id of asked) {
        yield* TestClock.adjust(100)
        server.last.say({ type: "published", id })
      }
      assert.deepStrictEqual(
        [of("roundTrip"), of("queue")],
        [
          [0, 200, 300, 400],
          [1, 2, 3, 2, 1, 0]
        ]
      )
      // One that expires on its way leaves the queue too.
      yield* Effect.forkChild(Effect.exit(client.publish(Own, 4)))
      yield* TestClock.adjust("2 minutes")
      assert.deepStrictEqual(of("queue").slice(6), [1, 0])
      assert.deepStrictEqual(names(), ["queue", "reconnect", "roundTrip"])
    }).pipe(Effect.scoped)
  )

  it.effect("costs nothing when it is absent: the client reads no clock for it", () =>
    Effect.gen(function* () {
      const clock = yield* Clock.Clock
      /** How often a client reads the clock for so many requests. */
      const reads = (count: number, options: { readonly onMetric?: () => void }) =>
        Effect.gen(function* () {
          const server = FakeSocket.make({ auto: true })
          let read = 0
          const counting: Clock.Clock = {
            ...clock,
            currentTimeMillisUnsafe: () => {
              read++
              return clock.currentTimeMillisUnsafe()
            }
          }
          const client = yield* Effect.provideService(make(server, options), Clock.Clock, counting)
          client.sync.listen(Room, listener)
          yield* TestClock.adjust(100)
          const before = read
          for (let n = 0; n < count; n++) {
            const leave = client.sync.listen(Channel.untyped(`room_${n}`), listener)
            yield* TestClock.adjust(1)
            leave()
          }
          assert.strictEqual(server.last.of("subscribe").length, 1 + count)
          return read - before
        }).pipe(Effect.scoped)
      const count = 20
      const without = yield* reads(count, {})
      const withIt = yield* reads(count, { onMetric: () => {} })
      // When each request was sent, and when it was answered.
      assert.strictEqual(withIt - without, 2 * count)
    })
  )
})

describe("trace", () => {
  it.effect("travels with a publish that has one, and is in no other frame", () =>
    Effect.gen(function* () {
      const server = FakeSocket.make({ auto: true })
      const client = yield* make(server)
      const Own = Channel.make("room_a", Schema.Finite, { publish: true })
      const trace = `00-${"a1".repeat(16)}-${"b2".repeat(8)}-01`
      yield* Effect.forkChild(client.publish(Own, 1, { trace }))
      yield* Effect.forkChild(client.publish(Own, 2))
      yield* TestClock.adjust(100)
      const published = server.sent.filter((frame) => frame.type === "publish")
      assert.deepStrictEqual(
        published.map((frame) => ("trace" in frame ? frame.trace : undefined)),
        [trace, undefined]
      )
    }).pipe(Effect.scoped)
  )
})
