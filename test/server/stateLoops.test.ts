/**
 * States that do not bring a subscription on: they cannot be joined, they cannot be read, or they are old
 * when they are read. Each costs a bounded number of reads and frames, and the rows are right afterwards.
 */
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Effect, Layer, Schema, type Scope } from "effect"
import { TestClock } from "effect/testing"
import * as Channel from "../../src/Channel.ts"
import * as Door from "../../src/server/internal/door/door.ts"
import { ReplayError } from "../../src/server/internal/outbox/outboxErrors.ts"
import { covers } from "../../src/internal/cursorText.ts"
import * as MemoryOutbox from "../../src/server/MemoryOutbox.ts"
import * as MemorySource from "../../src/server/MemorySource.ts"
import { OutboxReader } from "../../src/server/OutboxReader.ts"
import * as Realtime from "../../src/server/Realtime.ts"
import { Replica } from "../support/replica.ts"
import { settle, TestDoor, visit, type Visitor } from "../support/sessions.ts"

const Order = Schema.Struct({ id: Schema.Int, note: Schema.String })
const Orders = Channel.table("orders", Order, { key: "id" })
const channel = Orders.name

/** How the reader misbehaves, and how often it was asked. */
class Faults {
  /** No position can be joined. */
  unjoinable = false
  /** No state can be read. */
  unreadable = false
  /** A state that was read waits for this. */
  gate: Effect.Effect<void, ReplayError> = Effect.void
  reads = 0
  joins = 0
}

const world = <A, E>(
  body: (world: {
    readonly rows: MemoryOutbox.MemoryOutbox["Service"]["rows"]
    readonly faults: Faults
  }) => Effect.Effect<A, E, TestDoor | Scope.Scope>
) => {
  const faults = new Faults()
  const layerReader = Layer.effect(
    OutboxReader,
    Effect.map(OutboxReader, (reader): OutboxReader["Service"] => ({
      ...reader,
      join: (name, from, ...rest) => {
        faults.joins++
        return faults.unjoinable && from !== undefined
          ? Effect.map(reader.join(name, undefined, ...rest), (join) => ({
              ...join,
              state: "reset"
            }))
          : reader.join(name, from, ...rest)
      },
      rows: (request) =>
        Effect.suspend(() => {
          faults.reads++
          return faults.unreadable
            ? Effect.fail(new ReplayError({ channel, cause: new Error("a broken disk") }))
            : Effect.tap(reader.rows!(request), () => faults.gate)
        })
    }))
  ).pipe(Layer.provideMerge(MemoryOutbox.layer()))
  return Effect.flatMap(MemoryOutbox.MemoryOutbox, ({ rows }) => body({ rows, faults })).pipe(
    Effect.scoped,
    Effect.provide(
      Layer.effect(
        TestDoor,
        Door.make({ channels: [Orders], authorize: () => Effect.succeed(true) })
      ).pipe(
        Layer.provideMerge(Realtime.layer()),
        Layer.provide(MemorySource.layer),
        Layer.provideMerge(layerReader)
      )
    )
  )
}

const subscribe = (visitor: Visitor, id: number) => {
  visitor.send({ type: "subscribe", id, channel, state: true })
  return settle
}

/** A client that subscribed, and what it has. */
const follow = Effect.gen(function* () {
  const visitor = yield* visit()
  yield* subscribe(visitor, 1)
  const replica = new Replica(channel)
  return { visitor, replica, list: () => replica.take(visitor.frames).list }
})

const aMinute = (visitor: Visitor) =>
  Effect.suspend(() => {
    visitor.send({ type: "pong" })
    return Effect.andThen(TestClock.adjust("1 second"), settle)
  }).pipe(Effect.repeat({ times: 59 }))

describe("A state", () => {
  it.effect("that cannot be joined is read and sent again a few times a minute", () =>
    world(({ faults, rows }) =>
      Effect.gen(function* () {
        yield* rows.insert(Orders, { id: 1, note: "" })
        const { list, replica, visitor } = yield* follow
        expect(list()).toHaveLength(1)
        faults.unjoinable = true
        Object.assign(faults, { reads: 0, joins: 0 })
        yield* rows.truncate(Orders)
        yield* rows.insert(Orders, { id: 2, note: "" })
        yield* aMinute(visitor)
        // States are read after 0, 5, 15 and 35 s, and each is sent once.
        expect([visitor.of("state").length, visitor.of("gap").length]).toEqual([1 + 4, 1 + 4])
        expect(faults.reads).toBe(4)
        expect(faults.joins).toBeLessThanOrEqual(2 * faults.reads)
        list()
        expect(replica.stale).toBe(true)
        faults.unjoinable = false
        yield* aMinute(visitor)
        expect([list(), replica.stale]).toEqual([[{ id: 2, note: "" }], false])
        expect(visitor.of("ended")).toEqual([])
      })
    )
  )

  it.effect("that cannot be joined at the start refuses each request once, and is shared", () =>
    world(({ faults, rows }) =>
      Effect.gen(function* () {
        yield* rows.insert(Orders, { id: 1, note: "" })
        faults.unjoinable = true
        const visitors = yield* Effect.forEach(Array(20).fill(undefined), () => visit())
        for (let id = 1; id <= 5; id++) {
          for (const visitor of visitors) yield* subscribe(visitor, id)
          yield* TestClock.adjust("1 second")
        }
        for (const visitor of visitors) {
          expect(visitor.errors).toEqual(Array(5).fill("server/overloaded"))
          expect(visitor.of("state")).toEqual([])
        }
        expect(faults.reads).toBeLessThanOrEqual(6)
        faults.unjoinable = false
        for (const visitor of visitors) yield* subscribe(visitor, 6)
        for (const visitor of visitors) expect(visitor.answer(6)?.type).toBe("subscribed")
      })
    )
  )

  it.effect(
    "that cannot be read answers each request once, and the table is not asked again for each",
    () =>
      world(({ faults, rows }) =>
        Effect.gen(function* () {
          yield* rows.insert(Orders, { id: 1, note: "" })
          const all = yield* Effect.forEach(Array(20).fill(undefined), () => follow)
          faults.unreadable = true
          faults.reads = 0
          // Each subscription ends for want of a state, and its client subscribes again each second.
          yield* TestClock.adjust("2 seconds")
          yield* rows.truncate(Orders)
          yield* settle
          for (const { visitor } of all) {
            expect(visitor.of("ended")).toMatchObject([
              { code: "server/overloaded", retry: "later" }
            ])
          }
          for (let id = 2; id <= 11; id++) {
            for (const { visitor } of all) yield* subscribe(visitor, id)
            yield* TestClock.adjust("1 second")
          }
          for (const { visitor } of all) expect(visitor.errors).toHaveLength(10)
          expect(faults.reads).toBeLessThanOrEqual(11)
          faults.unreadable = false
          yield* rows.insert(Orders, { id: 2, note: "" })
          for (const { list, replica, visitor } of all) {
            yield* subscribe(visitor, 12)
            expect([list(), replica.stale]).toEqual([[{ id: 2, note: "" }], false])
          }
        })
      )
  )

  it.effect("that was read before a newer gap is not sent", () =>
    world(({ faults, rows }) =>
      Effect.gen(function* () {
        const { list, replica, visitor } = yield* follow
        const gate = yield* Deferred.make<void>()
        faults.gate = Deferred.await(gate)
        yield* rows.truncate(Orders)
        yield* rows.insert(Orders, { id: 1, note: "" })
        yield* settle
        expect(faults.reads).toBe(2)
        yield* rows.truncate(Orders)
        yield* rows.insert(Orders, { id: 2, note: "" })
        yield* settle
        yield* Deferred.succeed(gate, undefined)
        yield* settle
        list()
        expect(replica.stale).toBe(true)
        yield* aMinute(visitor)
        expect([list(), replica.stale]).toEqual([[{ id: 2, note: "" }], false])
        expect(replica.told.filter((told) => told !== "events" && told !== "cursor")).toEqual([
          "subscribed",
          "state",
          "gap truncate",
          "gap truncate",
          "state"
        ])
        const gap = visitor.last("gap")!
        expect(covers(visitor.last("state")!.cursor, gap.cursor!)).toBe(true)
      })
    )
  )

  it.effect("that could not be read ends nothing where a newer gap waits for another one", () =>
    world(({ faults, rows }) =>
      Effect.gen(function* () {
        const { list, replica, visitor } = yield* follow
        const gate = yield* Deferred.make<void, ReplayError>()
        faults.gate = Deferred.await(gate)
        yield* rows.truncate(Orders)
        yield* settle
        yield* rows.truncate(Orders)
        yield* rows.insert(Orders, { id: 2, note: "" })
        yield* settle
        faults.gate = Effect.void
        yield* Deferred.fail(gate, new ReplayError({ channel, cause: new Error("a broken disk") }))
        yield* aMinute(visitor)
        expect([list(), replica.stale]).toEqual([[{ id: 2, note: "" }], false])
        expect(visitor.of("ended")).toEqual([])
        // That of the start, the one that failed, and another one.
        expect(faults.reads).toBe(3)
      })
    )
  )

  it.effect("that a client asked for is rejected as its subscription ends: for now", () =>
    world(({ faults, rows }) =>
      Effect.gen(function* () {
        const { visitor } = yield* follow
        const gate = yield* Deferred.make<void, ReplayError>()
        faults.gate = Deferred.await(gate)
        yield* rows.truncate(Orders)
        yield* settle
        visitor.send({ type: "state", id: 2, channel })
        yield* settle
        yield* Deferred.fail(gate, new ReplayError({ channel, cause: new Error("a broken disk") }))
        yield* settle
        // A client takes the first of the two for the end of its rows if that says never.
        const ended = { code: "server/overloaded", retry: "later" }
        expect(visitor.frames.slice(-2)).toMatchObject([
          { type: "error", id: 2, ...ended },
          { type: "ended", channel, ...ended }
        ])
      })
    )
  )
})
