import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Layer, Queue, Schema, Stream } from "effect"
import { TestClock } from "effect/testing"
import * as Channel from "../../src/Channel.ts"
import type { RealtimeEvent } from "../../src/RealtimeEvent.ts"
import { NotificationSource } from "../../src/server/NotificationSource.ts"
import * as PgNotificationSource from "../../src/server/PgNotificationSource.ts"
import * as MemorySource from "../../src/server/MemorySource.ts"
import * as Realtime from "../../src/server/Realtime.ts"
import { layerDatabase } from "../support/database.ts"

const Order = Schema.Struct({ id: Schema.Int, at: Schema.optionalKey(Schema.Date) })
const Orders = Channel.make("orders", Order)
const Loose = Channel.make("orders", Schema.Unknown)

const layer = Realtime.layer().pipe(Layer.provideMerge(MemorySource.layer))

/** Collects a stream into a queue; returns once it is subscribed. */
const collect = <A, E, R>(stream: Stream.Stream<A, E, R>) =>
  Effect.gen(function* () {
    const queue = yield* Queue.unbounded<A>()
    const fiber = yield* stream.pipe(
      Stream.runForEach((value) => Queue.offer(queue, value)),
      Effect.forkScoped({ startImmediately: true })
    )
    yield* TestClock.adjust(0)
    return { queue, fiber }
  })

const brief = (event: RealtimeEvent<unknown>) =>
  event._tag === "Event" ? event.payload : `gap ${event.reason}`

describe("Realtime", () => {
  it.effect("every subscriber receives typed payloads", () =>
    Effect.gen(function* () {
      const first = yield* collect(Realtime.subscribe(Orders))
      const second = yield* collect(Realtime.subscribe(Orders))
      yield* Realtime.publish(Orders, { id: 1, at: new Date(0) })
      expect([yield* Queue.take(first.queue), yield* Queue.take(second.queue)]).toEqual([
        { id: 1, at: new Date(0) },
        { id: 1, at: new Date(0) }
      ])
    }).pipe(Effect.provide(layer))
  )

  it.effect("each live event has an id, the time of its receipt and a cursor", () =>
    Effect.gen(function* () {
      yield* TestClock.adjust("5 seconds")
      const { queue } = yield* collect(Realtime.events(Orders))
      yield* Realtime.publish(Orders, { id: 1 })
      yield* Realtime.publish(Orders, { id: 2 })
      const events = yield* Queue.takeN(queue, 2)
      const ids = events.map((event) => (event._tag === "Event" ? event.id : ""))
      expect(ids[0]).toMatch(/^[A-Za-z0-9_-]{8}:1$/)
      expect(ids[1]).toBe(ids[0]!.replace(/1$/, "2"))
      expect(events[0]).toEqual({
        _tag: "Event",
        channel: "orders",
        id: ids[0],
        at: new Date(5000),
        payload: { id: 1 },
        cursor: ids[0],
        tx: undefined
      })
    }).pipe(Effect.provide(layer))
  )

  it.effect("properties that the schema does not know are dropped", () =>
    Effect.gen(function* () {
      const { queue } = yield* collect(Realtime.subscribe(Orders))
      const source = yield* NotificationSource
      yield* source.notify("orders", `{"id":1,"secret":true}`)
      expect(yield* Queue.take(queue)).toEqual({ id: 1 })
    }).pipe(Effect.provide(layer))
  )

  it.effect("a subscriber receives a gap in the place of each event its schema rejects", () =>
    Effect.gen(function* () {
      const strict = yield* collect(Realtime.events(Orders))
      const loose = yield* collect(Realtime.events(Loose))
      const source = yield* NotificationSource
      for (const text of [`{"id":1}`, `not json`, `{"id":"two"}`, `{"id":3}`]) {
        yield* source.notify("orders", text)
      }
      expect((yield* Queue.takeN(strict.queue, 4)).map(brief)).toEqual([
        { id: 1 },
        "gap invalid",
        "gap invalid",
        { id: 3 }
      ])
      expect((yield* Queue.takeN(loose.queue, 4)).map(brief)).toEqual([
        { id: 1 },
        "gap invalid",
        { id: "two" },
        { id: 3 }
      ])
    }).pipe(Effect.provide(layer))
  )

  it.effect("a lost source is a gap in events, and the error of subscribe", () =>
    Effect.gen(function* () {
      const events = yield* collect(Realtime.events(Orders))
      const payloads = yield* collect(Realtime.subscribe(Orders))
      const memory = yield* MemorySource.MemorySource
      yield* memory.lose
      yield* memory.restore
      yield* Realtime.publish(Orders, { id: 1 })
      expect((yield* Queue.takeN(events.queue, 2)).map(brief)).toEqual(["gap source", { id: 1 }])
      const exit = yield* Fiber.await(payloads.fiber)
      expect(Exit.isFailure(exit) && exit.cause.toString()).toContain("Gap")
    }).pipe(Effect.provide(layer))
  )

  it.effect("a subscriber waits while the source is down, and is subscribed when it is up", () =>
    Effect.gen(function* () {
      const memory = yield* MemorySource.MemorySource
      yield* memory.lose
      const { queue } = yield* collect(Realtime.events(Orders))
      yield* TestClock.adjust("1 hour")
      yield* memory.restore
      yield* TestClock.adjust(0)
      yield* Realtime.publish(Orders, { id: 1 })
      expect(brief(yield* Queue.take(queue))).toEqual({ id: 1 })
    }).pipe(Effect.provide(layer))
  )

  it.effect("a node listens to a channel for 2 minutes after its last subscriber left", () =>
    Effect.gen(function* () {
      const memory = yield* MemorySource.MemorySource
      const { fiber } = yield* collect(Realtime.events(Orders))
      yield* Fiber.interrupt(fiber)
      yield* TestClock.adjust("119 seconds")
      expect(yield* memory.listening).toEqual(["orders"])
      yield* TestClock.adjust("2 seconds")
      expect(yield* memory.listening).toEqual([])
    }).pipe(Effect.provide(layer))
  )

  it.effect(
    "a channel that is opened again delivers no event that was waiting when the channel closed",
    () =>
      Effect.gen(function* () {
        const before = yield* collect(Realtime.events(Orders))
        yield* Realtime.publish(Orders, { id: 1 })
        yield* Queue.take(before.queue)
        // Waiting, because the batch window has not passed.
        yield* Realtime.publish(Orders, { id: 2 })
        yield* Fiber.interrupt(before.fiber)
        yield* TestClock.adjust("2 minutes")
        // No node listens now, so a later subscriber misses event 3: event 2 must not arrive either.
        yield* Realtime.publish(Orders, { id: 3 })
        const { queue } = yield* collect(Realtime.events(Orders))
        yield* TestClock.adjust("10 minutes")
        yield* Realtime.publish(Orders, { id: 4 })
        yield* TestClock.adjust("10 minutes")
        expect((yield* Queue.takeAll(queue)).map(brief)).toEqual([{ id: 4 }])
      }).pipe(
        Effect.provide(
          Realtime.layer({ batchWindow: "10 minutes" }).pipe(Layer.provideMerge(MemorySource.layer))
        )
      )
  )

  it.effect("a payload on which a schema throws is a gap, and every channel goes on", () =>
    Effect.gen(function* () {
      const Odd = Channel.make(
        "odd",
        Schema.Unknown.check(
          Schema.makeFilter((value) => {
            if (value === 13) throw new Error("not 13")
            return true
          })
        )
      )
      const { notify } = yield* NotificationSource
      const odd = yield* collect(Realtime.events(Odd).pipe(Stream.map(brief)))
      const other = yield* collect(Realtime.subscribe(Orders))
      for (const payload of ["1", "13", "2"]) yield* notify("odd", payload)
      expect(yield* Queue.takeN(odd.queue, 3)).toEqual([1, "gap invalid", 2])
      yield* notify("orders", '{"id":1}')
      expect(yield* Queue.take(other.queue)).toEqual({ id: 1 })
      expect(yield* Effect.flip(Realtime.publish(Odd, 13))).toMatchObject({
        _tag: "InvalidPayload"
      })
    }).pipe(Effect.provide(layer))
  )

  it.effect("a channel is never closed for another while a subscriber waits for it", () =>
    Effect.gen(function* () {
      const memory = yield* MemorySource.MemorySource
      const to = (name: string) =>
        collect(Realtime.events(Channel.make(name, Schema.Unknown)).pipe(Stream.map(brief)))
      const gone = yield* to("a")
      yield* Fiber.interrupt(gone.fiber)
      // "a" lingers, and a subscriber returns to it while the source is down.
      yield* memory.lose
      const waiting = yield* to("a")
      const other = yield* to("b")
      yield* to("c")
      yield* memory.restore
      yield* TestClock.adjust(0)
      yield* Fiber.interrupt(other.fiber)
      const later = yield* to("a")
      for (const id of [1, 2]) {
        yield* Realtime.publish(Channel.make("a", Schema.Unknown), id)
        yield* TestClock.adjust(0)
      }
      const seen = [yield* Queue.clear(waiting.queue), yield* Queue.clear(later.queue)]
      expect(seen.map((items) => items.filter((item) => item !== "gap source"))).toEqual([
        [1, 2],
        [1, 2]
      ])
    }).pipe(
      Effect.provide(
        Realtime.layer({ maxChannels: 2 }).pipe(Layer.provideMerge(MemorySource.layer))
      )
    )
  )

  it.effect("a channel over maxChannels is rejected, and opens once another channel closes", () =>
    Effect.gen(function* () {
      const { fiber } = yield* collect(Realtime.events(Orders))
      const other = Channel.make("other", Schema.Unknown)
      const error = yield* Realtime.events(other).pipe(Stream.runDrain, Effect.flip)
      expect(error._tag).toBe("TooManyChannels")
      yield* Fiber.interrupt(fiber)
      yield* TestClock.adjust("2 minutes")
      const { queue } = yield* collect(Realtime.events(other))
      yield* Realtime.publish(other, "x")
      expect(brief(yield* Queue.take(queue))).toBe("x")
    }).pipe(
      Effect.provide(
        Realtime.layer({ maxChannels: 1 }).pipe(Layer.provideMerge(MemorySource.layer))
      )
    )
  )

  it.effect("a slow consumer receives a gap for what it missed, and others miss nothing", () =>
    Effect.gen(function* () {
      const source = yield* NotificationSource
      const slow = yield* Realtime.events(Loose).pipe(
        Stream.rechunk(1),
        Stream.mapEffect((event) => Effect.as(Effect.sleep("1 second"), event)),
        Stream.takeUntil((event) => brief(event) === 999),
        Stream.runCollect,
        Effect.forkScoped({ startImmediately: true })
      )
      const { queue: fast } = yield* collect(Realtime.events(Loose))
      for (let id = 0; id < 1000; id++) {
        yield* source.notify("orders", String(id))
        // One batch each: received before the next is sent.
        expect(brief(yield* Queue.take(fast))).toBe(id)
      }
      yield* TestClock.adjust("1 hour")
      const seen = (yield* Fiber.join(slow)).map(brief)
      expect(seen).toContain("gap slow")
      const ids = seen.filter((value) => typeof value === "number")
      expect(ids).toEqual([...new Set(ids)].toSorted((a, b) => a - b))
      expect(ids.at(-1)).toBe(999)
      // Every hole in the numbers has one gap, and every gap has a hole.
      const holes = seen.filter(
        (value, index) => typeof value === "number" && index > 0 && seen[index - 1] !== value - 1
      )
      expect(holes.length).toBe(seen.filter((value) => value === "gap slow").length)
    }).pipe(Effect.provide(layer))
  )

  it.effect(
    "the state of the source is a Stream that begins with the present state and emits each change",
    () =>
      Effect.gen(function* () {
        const memory = yield* MemorySource.MemorySource
        const realtime = yield* Realtime.Realtime
        const seen: Array<string> = []
        yield* realtime.source.pipe(
          Stream.runForEach((state) => Effect.sync(() => seen.push(state))),
          Effect.forkScoped({ startImmediately: true })
        )
        yield* TestClock.adjust(0)
        expect(seen).toEqual(["up"])
        yield* memory.lose
        yield* TestClock.adjust("10 minutes")
        yield* memory.restore
        yield* TestClock.adjust(0)
        expect(seen).toEqual(["up", "down", "up"])
      }).pipe(Effect.provide(layer))
  )

  it.effect("system_notifications warns when the source is lost, and informs when it is back", () =>
    Effect.gen(function* () {
      const { queue } = yield* collect(Realtime.events(Channel.systemNotifications))
      const memory = yield* MemorySource.MemorySource
      yield* memory.lose
      yield* memory.restore
      const told = (yield* Queue.takeN(queue, 3)).map((event) =>
        event._tag === "Event" ? event.payload.type : `gap ${event.reason}`
      )
      expect(told).toEqual(["warning", "gap source", "info"])
    }).pipe(Effect.provide(layer))
  )

  describe("Events from a cursor", () => {
    const cursorAfter = (count: number) =>
      Effect.gen(function* () {
        const { fiber, queue } = yield* collect(Realtime.events(Loose))
        for (let id = 0; id < count; id++) yield* Realtime.publish(Loose, id)
        const events = yield* Queue.takeN(queue, count)
        yield* Fiber.interrupt(fiber)
        const last = events.at(-1)
        return last?._tag === "Event" ? last.cursor : undefined
      })

    it.effect("a subscriber with a cursor receives what it missed, then live events", () =>
      Effect.gen(function* () {
        const from = yield* cursorAfter(3)
        for (const payload of ["a", "b"]) yield* Realtime.publish(Loose, payload)
        yield* TestClock.adjust(0)
        const { queue } = yield* collect(Realtime.events(Loose, { from }))
        yield* Realtime.publish(Loose, "c")
        expect((yield* Queue.takeN(queue, 3)).map(brief)).toEqual(["a", "b", "c"])
      }).pipe(Effect.provide(layer))
    )

    it.effect.each([
      ["of another epoch", "AAAAAAAA:1"],
      ["that does not parse", "; drop table"],
      ["of the far future", "x"]
    ] as const)("a subscriber with a cursor %s receives a gap first", ([, text]) =>
      Effect.gen(function* () {
        const real = yield* cursorAfter(1)
        const from = text === "x" ? real!.replace(/:1$/, ":99") : text
        const { queue } = yield* collect(Realtime.events(Loose, { from }))
        yield* Realtime.publish(Loose, "next")
        expect((yield* Queue.takeN(queue, 2)).map(brief)).toEqual(["gap retention", "next"])
      }).pipe(Effect.provide(layer))
    )

    it.effect("a subscriber that missed more than 256 events receives a gap first", () =>
      Effect.gen(function* () {
        const from = yield* cursorAfter(1)
        for (let id = 0; id < 257; id++) yield* Realtime.publish(Loose, id)
        yield* TestClock.adjust(0)
        const { queue } = yield* collect(Realtime.events(Loose, { from }))
        expect(brief(yield* Queue.take(queue))).toBe("gap retention")
      }).pipe(Effect.provide(layer))
    )
  })

  describe("Realtime.publish", () => {
    it.effect("publish rejects a payload that does not match the schema", () =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(Realtime.publish(Orders, { id: 1.5 }))
        expect(error._tag).toBe("InvalidPayload")
      }).pipe(Effect.provide(layer))
    )

    it.effect("publish accepts 7,999 bytes of JSON and rejects 8,000, counted in bytes", () =>
      Effect.gen(function* () {
        // Two quotes and one byte of JSON, then two bytes per letter.
        yield* Realtime.publish(Loose, `x${"é".repeat(3998)}`)
        const error = yield* Effect.flip(Realtime.publish(Loose, "é".repeat(3999)))
        expect(error).toMatchObject({ _tag: "PayloadTooLarge", bytes: 8000, limit: 7999 })
      }).pipe(Effect.provide(layer))
    )

    it.effect("publish and events reject a channel name of 64 bytes", () =>
      Effect.gen(function* () {
        const channel = Channel.untyped("x".repeat(64))
        expect((yield* Effect.flip(Realtime.publish(channel, 1)))._tag).toBe("InvalidChannelName")
        const subscribed = Realtime.events(channel).pipe(Stream.runDrain, Effect.flip)
        expect((yield* subscribed)._tag).toBe("InvalidChannelName")
      }).pipe(Effect.provide(layer))
    )

    it.live("a live publish in a transaction that rolls back is never delivered", () =>
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        const queue = yield* Queue.unbounded<unknown>()
        const events = Realtime.events(Loose).pipe(
          Stream.runForEach((event) => Queue.offer(queue, brief(event)))
        )
        yield* Effect.forkScoped(events)
        yield* Realtime.publish(Loose, "ready").pipe(
          Effect.andThen(Effect.sleep(5)),
          Effect.repeat({ until: () => Queue.sizeUnsafe(queue) > 0 })
        )
        const inTransaction = (payload: string, end: Effect.Effect<void, string>) =>
          sql.withTransaction(Effect.andThen(Realtime.publish(Loose, payload), end))
        yield* Effect.ignore(inTransaction("rolled back", Effect.fail("no")))
        yield* inTransaction("committed", Effect.void)
        let next: unknown = "ready"
        while (next === "ready") next = yield* Queue.take(queue)
        expect(next).toBe("committed")
      }).pipe(
        Effect.scoped,
        Effect.provide(
          Realtime.layer().pipe(
            Layer.provide(PgNotificationSource.layer()),
            Layer.provideMerge(layerDatabase)
          )
        )
      )
    )
  })
})
