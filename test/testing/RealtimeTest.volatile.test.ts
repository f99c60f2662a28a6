/** Volatile channels of the whole system in memory, under TestClock. */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Fiber, Ref, Schema, Stream } from "effect"
import { Channel } from "effect-realtime"
import { RealtimeClient } from "effect-realtime/client"
import { Realtime, RealtimeServer } from "effect-realtime/server"
import { RealtimeTest } from "effect-realtime/testing"
import { TestClock } from "effect/testing"

const Pointer = Schema.Struct({ user: Schema.String, x: Schema.Int })
const Pointers = Channel.family("pointers_", Schema.String, Pointer, {
  delivery: "volatile",
  publish: true,
  latestBy: "user"
})
const Board = Pointers("board")

const system = RealtimeTest.layer({
  channels: [Pointers],
  authorize: RealtimeServer.allowAll,
  socketBytes: 1000
})

/** Collects in the background what a client receives: numbers, and the reasons of gaps. */
const watch = (client: RealtimeClient.RealtimeClient["Service"]) =>
  Effect.gen(function* () {
    const told = yield* Ref.make<ReadonlyArray<number | string>>([])
    yield* client.events(Board).pipe(
      Stream.runForEach((event) =>
        Ref.update(told, (all) => [...all, event._tag === "Event" ? event.payload.x : event.reason])
      ),
      Effect.forkScoped({ startImmediately: true })
    )
    return Ref.get(told)
  })

describe("RealtimeTest with volatile channels", () => {
  it.effect(
    "an event reaches every client and every Stream, and none after a cut or a lost database is a gap",
    () =>
      Effect.gen(function* () {
        const test = yield* RealtimeTest.RealtimeTest
        const ann = yield* RealtimeClient.RealtimeClient
        const bob = yield* test.connect()
        const anns = yield* watch(ann)
        const bobs = yield* watch(bob)
        const streamed = yield* Realtime.subscribe(Board).pipe(
          Stream.take(3),
          Stream.runCollect,
          Effect.forkScoped({ startImmediately: true })
        )
        yield* test.settle
        expect(yield* ann.publish(Board, { user: "ann", x: 1 })).toBe("published")
        yield* test.database.stop
        yield* test.publish(Board, { user: "test", x: 2 })
        yield* test.settle
        yield* test.database.restore
        yield* bob.network.cut
        expect(yield* bob.publish(Board, { user: "bob", x: 3 })).toBe("dropped")
        yield* test.publish(Board, { user: "test", x: 4 })
        yield* TestClock.adjust("5 seconds")
        yield* test.publish(Board, { user: "test", x: 5 })
        yield* test.settle
        expect(yield* anns).toEqual([1, 2, 4, 5])
        expect(yield* bobs).toEqual([1, 2, 5])
        expect((yield* Fiber.join(streamed)).map(({ x }) => x)).toEqual([1, 2, 4])
      }).pipe(Effect.provide(system))
  )

  it.effect("a client on a slow network receives the newest event of each key, and no gap", () =>
    Effect.gen(function* () {
      const test = yield* RealtimeTest.RealtimeTest
      const slow = yield* test.connect()
      const told = yield* watch(slow)
      yield* test.settle
      yield* slow.network.delay("1 second")
      for (let x = 0; x < 1000; x++) {
        yield* test.publish(Board, { user: "test", x })
        if (x % 10 === 0) yield* test.settle
      }
      yield* TestClock.adjust("1 minute")
      const seen = yield* told
      expect(seen.at(-1)).toBe(999)
      expect(seen.length).toBeLessThan(200)
      expect(seen.filter((one) => typeof one === "string")).toEqual([])
    }).pipe(Effect.provide(system))
  )

  it.effect("a server that restarts is no gap", () =>
    Effect.gen(function* () {
      const test = yield* RealtimeTest.RealtimeTest
      const client = yield* RealtimeClient.RealtimeClient
      const told = yield* watch(client)
      yield* test.settle
      yield* test.publish(Board, { user: "test", x: 1 })
      yield* test.settle
      yield* test.server.kill
      yield* TestClock.adjust("10 seconds")
      yield* test.publish(Board, { user: "test", x: 2 })
      yield* test.settle
      expect(yield* told).toEqual([1, 2])
    }).pipe(Effect.provide(system))
  )
})
