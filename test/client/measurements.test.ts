/** What a client lets a program collect: its reconnects, gaps and round trips, and the trace of a publish. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
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
