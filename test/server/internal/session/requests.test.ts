/**
 * Requests of a session: the server answers every request exactly once, whatever happens.
 */
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Effect, Layer, Schema, type Scope } from "effect"
import { TestClock } from "effect/testing"
import * as Channel from "../../../../src/Channel.ts"
import { NotificationSource, SourceError } from "../../../../src/server/NotificationSource.ts"
import * as MemorySource from "../../../../src/server/MemorySource.ts"
import type { Realtime } from "../../../../src/server/Realtime.ts"
import { allowAll, type AnonymousOptions } from "../../../../src/server/ServerOptions.ts"
import {
  layerDoor,
  refusals,
  settle,
  type TestDoor,
  visit,
  type Visitor
} from "../../../support/sessions.ts"
import { random } from "../../support/random.ts"

const Orders = Channel.make("orders", Schema.Struct({ id: Schema.Int }))
const Moves = Channel.make("moves", Schema.Struct({ id: Schema.Int }), { publish: true })
const Room = Channel.family("room_", Schema.String, Schema.Unknown, { publish: true })

const trap = (): never => {
  throw new Error("a bug in a schema: hunter2")
}
const Trap = Channel.make("trap", Schema.String.check(Schema.makeFilter(trap)), { publish: true })
const TrapFamily = Channel.family(
  "trap_",
  Schema.String.check(Schema.makeFilter(trap)),
  Schema.Unknown
)

type Needs = TestDoor | Realtime | MemorySource.MemorySource | NotificationSource | Scope.Scope

const options: AnonymousOptions = {
  channels: [Orders, Moves, Room, Trap, TrapFamily],
  authorize: allowAll
}

const withDoor = <A, E>(body: Effect.Effect<A, E, Needs>, more?: Partial<AnonymousOptions>) =>
  Effect.provide(Effect.scoped(body), layerDoor({ ...options, ...more }))

const ask = (visitor: Visitor, ...frames: ReadonlyArray<object>) =>
  Effect.suspend(() => {
    for (const frame of frames) visitor.send(frame)
    return settle
  })

const publish = (id: number, key: string, data: unknown, channel = "moves") => ({
  type: "publish",
  id,
  channel,
  key,
  data
})

describe("A bug in the application's code", () => {
  it.effect(
    "a throwing schema rejects its payload or channel, and other requests of the session are still answered",
    () =>
      withDoor(
        Effect.gen(function* () {
          const visitor = yield* visit()
          yield* ask(
            visitor,
            publish(1, "k", "x", "trap"),
            { type: "subscribe", id: 2, channel: "trap_x" },
            { type: "subscribe", id: 3, channel: "orders" }
          )
          expect(visitor.answer(1)).toMatchObject({ code: "publish/invalid", retry: "never" })
          expect(visitor.answer(2)).toMatchObject({ code: "server/internal" })
          expect(visitor.answer(3)?.type).toBe("subscribed")
          expect(JSON.stringify(visitor.frames)).not.toContain("hunter2")
        })
      )
  )

  it.effect("an authorize that throws or interrupts fails its request and no other request", () =>
    withDoor(
      Effect.gen(function* () {
        const visitor = yield* visit()
        yield* ask(
          visitor,
          { type: "subscribe", id: 1, channel: "orders" },
          { type: "subscribe", id: 2, channel: "moves" },
          { type: "subscribe", id: 3, channel: "room_a" }
        )
        expect(visitor.errors).toEqual(["server/internal", "server/internal"])
        expect(visitor.answer(3)?.type).toBe("subscribed")
      }),
      {
        authorize: ({ channel }) =>
          channel === "orders"
            ? Effect.interrupt
            : channel === "moves"
              ? trap()
              : Effect.succeed(true)
      }
    )
  )
})

describe("Spellings of a channel of a family", () => {
  const Seat = Channel.family("seat_", Schema.FiniteFromString, Schema.Unknown, { publish: true })

  it.effect(
    "a channel name has one spelling: subscribe and publish to any other spelling are rejected as unknown",
    () => {
      const asked: Array<unknown> = []
      return withDoor(
        Effect.gen(function* () {
          const visitor = yield* visit()
          yield* ask(visitor, { type: "subscribe", id: 0, channel: "seat_1" })
          for (const [index, channel] of ["seat_01", "seat_1.0", "seat_1e0"].entries()) {
            yield* ask(
              visitor,
              { type: "subscribe", id: 2 * index + 1, channel },
              publish(2 * index + 2, "k", "lost", channel)
            )
          }
          yield* ask(visitor, publish(9, "k", "heard", "seat_1"))
          expect(visitor.errors).toEqual(Array.from({ length: 6 }, () => "channel/unknown"))
          expect(visitor.answer(9)?.type).toBe("published")
          expect(
            visitor.of("events").flatMap(({ events }) => events.map(({ data }) => data))
          ).toEqual(["heard"])
          expect(asked).toEqual([1, 1])
        }),
        {
          channels: [Seat],
          authorize: ({ params }) =>
            Effect.as(
              Effect.sync(() => asked.push(params)),
              true
            )
        }
      )
    }
  )
})

describe("The id of a request", () => {
  it.effect("a client may use an id again once its request was answered", () =>
    withDoor(
      Effect.gen(function* () {
        const visitor = yield* visit()
        for (let n = 0; n < 3; n++) {
          yield* ask(visitor, { type: "unsubscribe", id: 1, channel: "orders" })
        }
        expect(visitor.of("unsubscribed")).toHaveLength(3)
      })
    )
  )

  it.effect("an id that is still unanswered is rejected, and the first request answers it", () =>
    Effect.gen(function* () {
      const gate = yield* Deferred.make<boolean>()
      yield* withDoor(
        Effect.gen(function* () {
          const visitor = yield* visit()
          yield* ask(
            visitor,
            { type: "subscribe", id: 1, channel: "orders" },
            { type: "subscribe", id: 1, channel: "moves" },
            { type: "dance", id: 1 },
            { type: "publish", id: 1, channel: "moves" }
          )
          expect(visitor.errors).toEqual(["frame/malformed", "frame/unknown", "frame/malformed"])
          expect(visitor.of("error").every((error) => !("id" in error))).toBe(true)
          yield* Deferred.succeed(gate, true)
          yield* settle
          expect(visitor.answer(1)).toMatchObject({ type: "subscribed", channel: "orders" })
        }),
        { authorize: () => Deferred.await(gate) }
      )
    })
  )
})

describe("The order of the checks", () => {
  const limits = {
    maxSubscriptions: 1,
    subscribeRate: { perSecond: 0.001, burst: 3 },
    publishRate: { perSecond: 0.001, burst: 2 }
  }
  it.effect("subscribe checks name, channel, rate, limit, duplicate, authorize in this order", () =>
    withDoor(
      Effect.gen(function* () {
        const visitor = yield* visit()
        const subscribe = (id: number, channel: string) => ({ type: "subscribe", id, channel })
        yield* ask(
          visitor,
          subscribe(1, "no such name"),
          subscribe(2, "nowhere"),
          // Rejected by authorize, so it takes no place.
          subscribe(3, "moves"),
          subscribe(4, "orders"),
          // At the limit, and a duplicate too.
          subscribe(5, "orders"),
          // Over the rate, and over the limit too.
          subscribe(6, "orders"),
          subscribe(7, "nowhere"),
          subscribe(8, "no such name")
        )
        expect(visitor.errors).toEqual([
          "channel/invalid-name",
          "channel/unknown",
          "channel/forbidden",
          "subscribe/limit",
          "rate/limited",
          "channel/unknown",
          "channel/invalid-name"
        ])
      }),
      { limits, authorize: ({ channel }) => Effect.succeed(channel === "orders") }
    )
  )

  it.effect("publish checks channel, rate, authorize, payload in this order", () =>
    withDoor(
      Effect.gen(function* () {
        const visitor = yield* visit()
        yield* ask(
          visitor,
          publish(1, "k", "no order", "nowhere"),
          publish(2, "k", "no move", "moves"),
          publish(3, "k", "no order", "orders"),
          publish(4, "k", "no move", "moves")
        )
        expect(visitor.errors).toEqual([
          "channel/unknown",
          "publish/forbidden",
          "publish/forbidden",
          "rate/limited"
        ])
      }),
      { limits, authorize: () => Effect.succeed(false) }
    )
  )
})

describe("Publish with a key", () => {
  const watch = Effect.gen(function* () {
    const watcher = yield* visit()
    yield* ask(watcher, { type: "subscribe", id: 1, channel: "moves" })
    return () => watcher.of("events").flatMap(({ events }) => events.map(({ data }) => data))
  })

  it.effect("two publishes with one key and the same data send one event and get two answers", () =>
    withDoor(
      Effect.gen(function* () {
        const seen = yield* watch
        const visitor = yield* visit()
        yield* ask(visitor, publish(1, "k", { id: 1 }), publish(2, "k", { id: 1, more: true }))
        expect(visitor.of("published").map(({ id }) => id)).toEqual([1, 2])
        expect(seen()).toEqual([{ id: 1 }])
        yield* ask(visitor, publish(3, "k", { id: 2 }))
        expect(visitor.answer(3)).toMatchObject({ code: "publish/invalid", retry: "never" })
        yield* TestClock.adjust("10 minutes")
        yield* TestClock.adjust("1 second")
        const later = yield* visit()
        yield* ask(later, publish(1, "k", { id: 2 }))
        expect(later.answer(1)?.type).toBe("published")
        expect(seen()).toEqual([{ id: 1 }])
      })
    )
  )

  const few = [
    ["maxPublishKeys", { maxPublishKeys: 2 }],
    ["maxPublishKeysPerIdentity", { maxPublishKeysPerIdentity: 2 }]
  ] as const
  it.effect.each(few)("beyond %s forgets the oldest key, and counts that", ([limit, limits]) =>
    withDoor(
      Effect.gen(function* () {
        const before = yield* refusals(limit)
        const seen = yield* watch
        const visitor = yield* visit()
        yield* ask(visitor, publish(1, "k", { id: 1 }), publish(2, "l", { id: 2 }))
        expect(yield* refusals(limit)).toBe(before)
        yield* ask(visitor, publish(3, "m", { id: 3 }), publish(4, "l", { id: 2 }))
        expect(yield* refusals(limit)).toBe(before + 1)
        expect(seen()).toEqual([{ id: 1 }, { id: 2 }, { id: 3 }])
        yield* ask(visitor, publish(5, "k", { id: 1 }))
        expect(seen()).toEqual([{ id: 1 }, { id: 2 }, { id: 3 }, { id: 1 }])
        expect(visitor.of("published")).toHaveLength(5)
      }),
      { limits }
    )
  )

  it.effect("older than maxPublishKeyAge is published again", () =>
    withDoor(
      Effect.gen(function* () {
        const seen = yield* watch
        const visitor = yield* visit()
        yield* ask(visitor, publish(1, "k", { id: 1 }))
        yield* TestClock.adjust("3 seconds")
        yield* ask(visitor, publish(2, "k", { id: 1 }))
        expect(seen()).toEqual([{ id: 1 }])
        yield* TestClock.adjust("1 second")
        yield* ask(visitor, publish(3, "k", { id: 1 }))
        expect(seen()).toEqual([{ id: 1 }, { id: 1 }])
      }),
      { limits: { maxPublishKeyAge: "3 seconds" } }
    )
  )

  /** A source that holds each NOTIFY until the gate opens, and counts them. */
  const slowSource = (gate: Deferred.Deferred<void, SourceError>) => {
    const state = { notified: 0 }
    const layer = Layer.effect(
      NotificationSource,
      Effect.map(NotificationSource, (source) => ({
        ...source,
        notify: (channel: string, payload: string) =>
          Effect.suspend(() => {
            state.notified++
            return Effect.andThen(Deferred.await(gate), source.notify(channel, payload))
          })
      }))
    )
    return { layer, state }
  }

  it.effect("a publish sent again after its session was cut is sent to the source once", () =>
    Effect.gen(function* () {
      const gate = yield* Deferred.make<void, SourceError>()
      const { layer, state } = slowSource(gate)
      yield* Effect.gen(function* () {
        const first = yield* visit()
        yield* ask(first, publish(1, "k", { id: 1 }))
        first.terminate()
        const again = yield* visit()
        yield* ask(again, publish(1, "k", { id: 1 }))
        expect(again.of("published")).toEqual([])
        yield* Deferred.succeed(gate, undefined)
        yield* settle
        expect(again.of("published")).toHaveLength(1)
        expect(state.notified).toBe(1)
      }).pipe(Effect.scoped, Effect.provide(layerDoor(options, undefined, layer)))
    })
  )

  it.effect("a failed publish is rejected with source/down without its cause, and retried", () =>
    Effect.gen(function* () {
      const gate = yield* Deferred.make<void, SourceError>()
      const { layer, state } = slowSource(gate)
      yield* Effect.gen(function* () {
        const visitor = yield* visit()
        yield* ask(visitor, publish(1, "k", { id: 1 }))
        const cause = new Error("permission denied for table secrets: hunter2")
        yield* Deferred.fail(gate, new SourceError({ operation: "notify", cause }))
        yield* settle
        expect(visitor.answer(1)).toMatchObject({ code: "source/down", retry: "later" })
        expect(JSON.stringify(visitor.frames)).not.toMatch(/hunter2|secrets|notify/i)
        yield* ask(visitor, publish(2, "k", { id: 1 }))
        expect(state.notified).toBe(2)
      }).pipe(Effect.scoped, Effect.provide(layerDoor(options, undefined, layer)))
    })
  )

  it.effect("a publish slower than sourceTimeout is rejected with source/down, and sent once", () =>
    Effect.gen(function* () {
      const gate = yield* Deferred.make<void, SourceError>()
      const { layer, state } = slowSource(gate)
      yield* Effect.gen(function* () {
        const visitor = yield* visit()
        yield* ask(visitor, publish(1, "k", { id: 1 }))
        yield* TestClock.adjust("10 seconds")
        expect(visitor.answer(1)).toMatchObject({ code: "source/down", retry: "later" })
        yield* ask(visitor, publish(2, "k", { id: 1 }))
        yield* Deferred.succeed(gate, undefined)
        yield* settle
        expect(visitor.answer(2)?.type).toBe("published")
        expect(state.notified).toBe(1)
      }).pipe(Effect.scoped, Effect.provide(layerDoor(options, undefined, layer)))
    })
  )
})

describe("Random requests", () => {
  const seeds = Array.from({ length: 30 }, (_, seed) => seed + 1)
  it.effect.each(seeds)("150 random requests are answered exactly once each (seed %i)", (seed) => {
    const { chance, int, pick } = random(seed)
    const names = ["orders", "moves", "room_a", "room_b", "trap_x", "nowhere", "no name"]
    return withDoor(
      Effect.gen(function* () {
        const visitor = yield* visit()
        const source = yield* MemorySource.MemorySource
        for (let id = 1; id <= 150; id++) {
          const type = pick(["subscribe", "subscribe", "unsubscribe", "publish", "authenticate"])
          const data = pick([{ id: 1 }, { id: 2 }, "x"])
          const cursor = pick([undefined, "e:1", "x"])
          visitor.send({
            type,
            id,
            channel: pick(names),
            key: pick(["k", "l"]),
            data,
            cursor,
            token: "t"
          })
          if (chance(0.2)) yield* settle
          if (chance(0.05)) yield* source.lose
          if (chance(0.1)) yield* source.restore
          if (chance(0.1)) yield* TestClock.adjust(int(3000))
          if (chance(0.1)) visitor.send({ type: "pong" })
        }
        yield* source.restore
        yield* TestClock.adjust("20 seconds")
        visitor.send({ type: "pong" })
        yield* settle
        expect(visitor.closeCode).toBeUndefined()
        const answers = visitor.frames.flatMap((frame) =>
          "id" in frame && frame.id !== undefined ? [frame.id] : []
        )
        expect(answers.toSorted((a, b) => a - b)).toEqual(
          Array.from({ length: 150 }, (_, index) => index + 1)
        )
      }),
      {
        authorize: () =>
          Effect.suspend(() =>
            chance(0.1)
              ? Effect.die(new Error("x"))
              : Effect.delay(Effect.succeed(chance(0.8)), int(50))
          ),
        limits: { maxUnanswered: 1000 }
      }
    )
  })
})
