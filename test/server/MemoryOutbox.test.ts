/** The outbox in memory under `Realtime`. Its contract is tested by `outbox.contract.test.ts`. */
import { describe, expect, expectTypeOf, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Queue, Schema, Stream, SubscriptionRef } from "effect"
import { Channel, type RealtimeEvent } from "effect-realtime"
import { OutboxReader, MemorySource, MemoryOutbox, Realtime } from "effect-realtime/server"
import { TestClock } from "effect/testing"

const Orders = Channel.make("orders", Schema.Struct({ n: Schema.Int }), { delivery: "durable" })

const layer = Realtime.layer().pipe(
  Layer.provideMerge(MemoryOutbox.layer()),
  Layer.provideMerge(MemorySource.layer)
)

const short = (event: RealtimeEvent.RealtimeEvent<{ readonly n: number }>) =>
  event._tag === "Event" ? event.payload.n : event.reason

/** The first `count` events of a Stream, collected in the background. */
const first = (count: number, from?: string) =>
  Realtime.events(Orders, { from }).pipe(
    Stream.take(count),
    Stream.map(short),
    Stream.runCollect,
    Effect.forkChild({ startImmediately: true })
  )

describe("MemoryOutbox", () => {
  it.effect("a Stream resumes without a gap after the database was away", () =>
    Effect.gen(function* () {
      const outbox = yield* MemoryOutbox.MemoryOutbox
      const reader = yield* OutboxReader.OutboxReader
      const from = yield* reader.position
      yield* outbox.lose
      expect(yield* SubscriptionRef.get(reader.state)).toBe("down")
      yield* Realtime.publish(Orders, { n: 1 })
      const waiting = yield* first(2, from)
      const asked = yield* Effect.forkChild(reader.position, { startImmediately: true })
      expect([waiting.pollUnsafe(), asked.pollUnsafe()]).toEqual([undefined, undefined])
      yield* outbox.restore
      yield* Realtime.publish(Orders, { n: 2 })
      expect(yield* Fiber.join(waiting)).toEqual([1, 2])
      expect(yield* Fiber.join(asked)).not.toBe(from)
      expect(yield* SubscriptionRef.get(reader.state)).toBe("up")
    }).pipe(Effect.provide(layer))
  )

  it.effect("a stopped outbox fails publishes, and a crash that loses events sends a gap", () =>
    Effect.gen(function* () {
      const outbox = yield* MemoryOutbox.MemoryOutbox
      const reader = yield* OutboxReader.OutboxReader
      const from = yield* reader.position
      const told = yield* first(4, from)
      yield* Realtime.publish(Orders, { n: 1 })
      yield* outbox.stop
      expect(yield* Effect.flip(Realtime.publish(Orders, { n: 2 }))).toMatchObject({
        _tag: "SourceError",
        operation: "publish"
      })
      yield* outbox.restore
      yield* Realtime.publish(Orders, { n: 3 })
      yield* Effect.yieldNow
      yield* outbox.crash({ losing: 1 })
      yield* outbox.restore
      yield* Realtime.publish(Orders, { n: 4 })
      expect(yield* Fiber.join(told)).toEqual([1, 3, "source", 4])
      expect(yield* Fiber.join(yield* first(2, from))).toEqual([1, 4])
    }).pipe(Effect.provide(layer))
  )

  it.effect("followers receive a new position hourly, and cursors expire after a day", () =>
    Effect.gen(function* () {
      const outbox = yield* MemoryOutbox.MemoryOutbox
      const reader = yield* OutboxReader.OutboxReader
      const from = yield* reader.position
      const queue = yield* reader.follow("orders")
      yield* outbox.commit({ channel: "orders", text: '{"n":1}' })
      const [batch] = yield* Queue.takeAll(queue)
      yield* TestClock.adjust("1 hour")
      expect(yield* Queue.takeAll(queue)).toMatchObject([
        { _tag: "Position", cursor: batch.cursor, tick: batch.tick }
      ])
      yield* TestClock.adjust("22 hours")
      expect((yield* reader.join("orders", from)).state).toBe("recovered")
      yield* TestClock.adjust("2 hours")
      expect((yield* reader.join("orders", from)).reason).toBe("retention")
      // A cursor at the last message has missed nothing.
      expect((yield* reader.join("orders", batch.cursor)).state).toBe("recovered")
    }).pipe(Effect.scoped, Effect.provide(MemoryOutbox.layer()))
  )

  it.effect("tells a channel that has nothing in the last page where the tick ended", () =>
    Effect.gen(function* () {
      const outbox = yield* MemoryOutbox.MemoryOutbox
      const reader = yield* OutboxReader.OutboxReader
      const [orders, others] = [yield* reader.follow("orders"), yield* reader.follow("others")]
      yield* outbox.commit(
        { channel: "orders", text: "1" },
        { channel: "orders", text: "2" },
        { channel: "others", text: "3" }
      )
      const [other] = yield* Queue.takeAll(others)
      const [batch, position, ...rest] = yield* Queue.takeAll(orders)
      expect(batch.cursor).not.toBe(other.cursor)
      expect(position).toEqual({
        _tag: "Position",
        cursor: other.cursor,
        tick: batch.tick,
        ends: batch.cursor
      })
      expect(rest).toEqual([])
      // In the last page of a tick nothing is in its middle.
      yield* outbox.commit({ channel: "orders", text: "4" }, { channel: "others", text: "5" })
      expect((yield* Queue.takeAll(orders)).map(({ _tag }) => _tag)).toEqual(["Batch"])
    }).pipe(Effect.scoped, Effect.provide(MemoryOutbox.layer({ maxPageMessages: 2 })))
  )

  it.effect("a message that a follower commits while it receives one is handed out once", () =>
    Effect.gen(function* () {
      const outbox = yield* MemoryOutbox.MemoryOutbox
      const reader = yield* OutboxReader.OutboxReader
      const seen: Array<string> = []
      const listen = (receive: (text: string) => Effect.Effect<unknown, unknown>) =>
        reader.batches("orders").pipe(
          Stream.flatMap((item) => Stream.fromIterable(item._tag === "Batch" ? item.events : [])),
          Stream.runForEach(({ text }) => receive(text)),
          Effect.forkScoped({ startImmediately: true })
        )
      yield* listen((text) =>
        text === "1" ? outbox.commit({ channel: "orders", text: "2" }) : Effect.void
      )
      yield* listen((text) => Effect.sync(() => seen.push(text)))
      yield* TestClock.adjust(0)
      yield* outbox.commit({ channel: "orders", text: "1" })
      yield* TestClock.adjust(0)
      expect(seen).toEqual(["1", "2"])
    }).pipe(Effect.scoped, Effect.provide(MemoryOutbox.layer()))
  )

  it.effect("the outbox prunes every quarter of a retention of 1 minute", () =>
    Effect.gen(function* () {
      const reader = yield* OutboxReader.OutboxReader
      const from = yield* reader.position
      yield* reader.publish("orders", "1")
      yield* TestClock.adjust("59 seconds")
      expect((yield* reader.join("orders", from)).state).toBe("recovered")
      yield* TestClock.adjust("16 seconds")
      expect((yield* reader.join("orders", from)).reason).toBe("retention")
    }).pipe(Effect.provide(MemoryOutbox.layer({ retention: "1 minute" })))
  )

  it.effect("an outbox rejects the cursors of another outbox", () =>
    Effect.gen(function* () {
      const cursor = yield* OutboxReader.OutboxReader.use(({ position }) => position).pipe(
        Effect.provide(Layer.fresh(MemoryOutbox.layer()))
      )
      const reader = yield* OutboxReader.OutboxReader
      expect((yield* reader.join("orders", cursor)).reason).toBe("identity")
    }).pipe(Effect.provide(MemoryOutbox.layer()))
  )

  it("snapshot and consume need a PgClient in their type, though the outbox in memory has none", () => {
    const consumed = Realtime.consume(Orders, { name: "one", onEvents: () => Effect.void }).pipe(
      Effect.provide(layer)
    )
    const state = Realtime.snapshot(Effect.void).pipe(Effect.provide(layer))
    expectTypeOf<Effect.Services<typeof consumed>>().toHaveProperty("config")
    expectTypeOf<Effect.Services<typeof state>>().not.toBeNever()
    expectTypeOf<Effect.Services<typeof consumed>>().not.toBeNever()
  })
})
