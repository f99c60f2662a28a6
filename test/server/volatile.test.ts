/**
 * Volatile channels at the door: from client to clients without a database, the newest event of each key
 * for a socket that is busy, and a rate of their own.
 */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Fiber, Latch, Layer, Schema, type Scope, Stream } from "effect"
import { TestClock } from "effect/testing"
import * as Channel from "../../src/Channel.ts"
import * as Door from "../../src/server/internal/door/door.ts"
import * as MemorySource from "../../src/server/MemorySource.ts"
import * as Realtime from "../../src/server/Realtime.ts"
import { allowAll, type AnonymousOptions, type Request } from "../../src/server/ServerOptions.ts"
import { layerDoor, refusals, settle, TestDoor, visit, type Visitor } from "../support/sessions.ts"
import { long, random, seed } from "./support/random.ts"

const Pointer = Schema.Struct({ user: Schema.String, x: Schema.Int })
const Pointers = Channel.make("pointers", Pointer, {
  delivery: "volatile",
  publish: true,
  latestBy: "user"
})
const Typing = Channel.family("typing_", Schema.String, Schema.Boolean, {
  delivery: "volatile",
  publish: true
})
const Silent = Channel.make("silent", Pointer, { delivery: "volatile" })
const Notes = Channel.make("notes", Pointer, { publish: true })

const options: AnonymousOptions = { channels: [Pointers, Typing, Silent], authorize: allowAll }

/** A server of volatile channels: no notification source and no outbox. */
const alone = (more?: Partial<AnonymousOptions>) =>
  Layer.effect(TestDoor, Door.make({ ...options, ...more })).pipe(
    Layer.provideMerge(Realtime.layerVolatile())
  )

type Needs = TestDoor | Realtime.Realtime | Scope.Scope

const withDoor = <A, E>(body: Effect.Effect<A, E, Needs>, more?: Partial<AnonymousOptions>) =>
  Effect.provide(Effect.scoped(body), alone(more))

let lastId = 100
const publish = (visitor: Visitor, data: unknown, channel = "pointers") => {
  visitor.send({ type: "publish", id: ++lastId, channel, data })
  return lastId
}

const subscriber = (...channels: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const visitor = yield* visit()
    for (const [id, channel] of channels.entries()) visitor.send({ type: "subscribe", id, channel })
    yield* settle
    return visitor
  })

const dataOf = (visitor: Visitor, channel = "pointers") =>
  visitor
    .of("events")
    .filter((frame) => frame.channel === channel)
    .map(({ events }) => events.map(({ data }) => data))

describe("A volatile channel", () => {
  it.effect(
    "carries a publish of one client to the others, without a database, a key or a cursor",
    () =>
      withDoor(
        Effect.gen(function* () {
          const ann = yield* subscriber("pointers")
          const bob = yield* subscriber("pointers")
          expect(ann.answer(0)).toEqual({
            type: "subscribed",
            id: 0,
            channel: "pointers",
            state: "fresh"
          })
          const id = publish(ann, { user: "ann", x: 1, more: true })
          yield* settle
          expect(ann.answer(id)).toEqual({ type: "published", id })
          const frame = {
            type: "events",
            channel: "pointers",
            events: [
              {
                id: expect.any(String),
                at: "1970-01-01T00:00:00.000Z",
                data: { user: "ann", x: 1 }
              }
            ]
          }
          expect(ann.of("events")).toEqual([frame])
          expect(bob.of("events")).toEqual(ann.of("events"))
          publish(bob, { user: "bob", x: 2 })
          yield* settle
          const ids = ann.of("events").flatMap(({ events }) => events.map((event) => event.id))
          expect(new Set(ids).size).toBe(2)
        })
      )
  )

  it.effect("delivers what several clients publish in one turn of the loop in one frame", () =>
    withDoor(
      Effect.gen(function* () {
        const ann = yield* subscriber("pointers")
        const bob = yield* subscriber()
        publish(ann, { user: "ann", x: 1 })
        publish(bob, { user: "bob", x: 1 })
        publish(ann, { user: "ann", x: 2 })
        yield* settle
        expect(dataOf(ann)).toEqual([
          [
            { user: "ann", x: 1 },
            { user: "bob", x: 1 },
            { user: "ann", x: 2 }
          ]
        ])
      })
    )
  )

  it.effect(
    "remembers nothing: a client that subscribes later receives what follows, whatever its cursor",
    () =>
      withDoor(
        Effect.gen(function* () {
          const ann = yield* subscriber("pointers")
          publish(ann, { user: "ann", x: 1 })
          yield* settle
          const bob = yield* visit()
          bob.send({ type: "subscribe", id: 1, channel: "pointers", cursor: "e:0" })
          yield* settle
          expect(bob.answer(1)).toEqual({
            type: "subscribed",
            id: 1,
            channel: "pointers",
            state: "fresh"
          })
          publish(ann, { user: "ann", x: 2 })
          yield* settle
          expect(dataOf(bob)).toEqual([[{ user: "ann", x: 2 }]])
          bob.send({ type: "unsubscribe", id: 2, channel: "pointers" })
          publish(ann, { user: "ann", x: 3 })
          yield* settle
          expect(dataOf(bob)).toHaveLength(1)
        })
      )
  )

  it.effect("rejects a payload that does not match, and does nothing else with it", () =>
    withDoor(
      Effect.gen(function* () {
        const ann = yield* subscriber("pointers")
        const ids = [{ user: "ann" }, "x", { user: 1, x: 1 }].map((data) => publish(ann, data))
        const unknown = publish(ann, true, "silent")
        yield* settle
        for (const id of ids) {
          expect(ann.answer(id)).toMatchObject({ code: "publish/invalid", retry: "never" })
        }
        expect(ann.answer(unknown)).toMatchObject({ code: "publish/forbidden" })
        expect([ann.of("events"), ann.of("gap"), ann.closeCode]).toEqual([[], [], undefined])
      })
    )
  )

  it.effect("carries 512 KiB of UTF-8, and rejects more", () =>
    withDoor(
      Effect.gen(function* () {
        const ann = yield* subscriber("pointers")
        const around = JSON.stringify({ user: "", x: 1 }).length
        const fits = "é".repeat((512 * 1024 - around) / 2)
        yield* Realtime.publish(Pointers, { user: fits, x: 1 })
        const error = yield* Effect.flip(Realtime.publish(Pointers, { user: `${fits}é`, x: 1 }))
        expect(error).toMatchObject({
          _tag: "PayloadTooLarge",
          channel: "pointers",
          limit: 524_288
        })
        yield* settle
        expect(dataOf(ann)).toEqual([[{ user: fits, x: 1 }]])
      })
    )
  )

  it.effect("needs no key, and a publish on another channel does", () =>
    Effect.gen(function* () {
      const ann = yield* subscriber("notes")
      const id = publish(ann, { user: "ann", x: 1 }, "notes")
      yield* settle
      expect(ann.answer(id)).toMatchObject({ code: "frame/malformed" })
      ann.send({
        type: "publish",
        id: 1,
        channel: "notes",
        key: "k",
        data: { user: "ann", x: 1 }
      })
      yield* settle
      expect(ann.answer(1)?.type).toBe("published")
      const same = publish(ann, { user: "ann", x: 1 })
      const again = publish(ann, { user: "ann", x: 1 })
      yield* settle
      expect([ann.answer(same)?.type, ann.answer(again)?.type]).toEqual(["published", "published"])
    }).pipe(
      Effect.scoped,
      Effect.provide(layerDoor({ channels: [Notes, Pointers], authorize: allowAll }))
    )
  )

  it.effect("goes on while the database is away", () =>
    Effect.gen(function* () {
      const source = yield* MemorySource.MemorySource
      yield* source.lose
      const ann = yield* subscriber("pointers")
      publish(ann, { user: "ann", x: 1 })
      yield* settle
      expect(dataOf(ann)).toEqual([[{ user: "ann", x: 1 }]])
      yield* source.restore
      yield* settle
      expect(ann.of("gap")).toEqual([])
    }).pipe(
      Effect.scoped,
      Effect.provide(layerDoor({ channels: [Notes, Pointers], authorize: allowAll }))
    )
  )
})

describe("The rate of volatile publishes", () => {
  it.effect("counts all volatile channels of a session together, and no others", () =>
    withDoor(
      Effect.gen(function* () {
        const ann = yield* subscriber("pointers")
        const bob = yield* subscriber()
        expect(ann.last("welcome")?.limits.volatilePerSecond).toBe(60)
        const before = yield* refusals("volatileRate")
        const ids = Array.from({ length: 130 }, (_, n) =>
          n % 2 === 0 ? publish(ann, { user: "ann", x: n }) : publish(ann, true, "typing_a")
        )
        yield* settle
        const types = ids.map((id) => ann.answer(id)!.type)
        expect(types.slice(0, 120)).toEqual(Array.from({ length: 120 }, () => "published"))
        expect(ann.answer(ids[125]!)).toMatchObject({
          type: "error",
          code: "rate/limited",
          retry: "later",
          retryAfter: expect.any(Number)
        })
        expect(types.slice(120)).toEqual(Array.from({ length: 10 }, () => "error"))
        expect((yield* refusals("volatileRate")) - before).toBe(10)
        expect(dataOf(ann).flat()).toHaveLength(60)
        expect(ann.closeCode).toBeUndefined()
        const other = publish(bob, { user: "bob", x: 1 })
        yield* settle
        expect(bob.answer(other)?.type).toBe("published")
        yield* TestClock.adjust("1 second")
        const later = Array.from({ length: 61 }, (_, n) => publish(ann, { user: "ann", x: n }))
        yield* settle
        expect(later.map((id) => ann.answer(id)!.type)).toEqual([
          ...Array.from({ length: 60 }, () => "published"),
          "error"
        ])
      })
    )
  )

  it.effect("is an option, and a publish on other channels does not count", () =>
    Effect.gen(function* () {
      const ann = yield* subscriber()
      expect(ann.last("welcome")?.limits).toMatchObject({
        publishPerSecond: 20,
        volatilePerSecond: 2
      })
      const ids = [1, 2, 3].map((x) => publish(ann, { user: "ann", x }))
      ann.send({ type: "publish", id: 1, channel: "notes", key: "k", data: { user: "a", x: 1 } })
      yield* settle
      expect(ids.map((id) => ann.answer(id)!.type)).toEqual(["published", "published", "error"])
      expect(ann.answer(1)?.type).toBe("published")
    }).pipe(
      Effect.scoped,
      Effect.provide(
        layerDoor({
          channels: [Notes, Pointers],
          authorize: allowAll,
          limits: { volatileRate: { perSecond: 2, burst: 2 } }
        })
      )
    )
  )
})

describe("authorize for volatile publishes", () => {
  it.effect("is asked once a second for each session and channel, and decides", () => {
    const asked: Array<string> = []
    let allowed = true
    return withDoor(
      Effect.gen(function* () {
        const ann = yield* subscriber("pointers")
        for (let x = 0; x < 10; x++) publish(ann, { user: "ann", x })
        publish(ann, true, "typing_a")
        yield* settle
        expect(asked).toEqual(["subscribe pointers", "publish pointers", "publish typing_a"])
        allowed = false
        yield* TestClock.adjust("1 second")
        const id = publish(ann, { user: "ann", x: 10 })
        const next = publish(ann, { user: "ann", x: 11 })
        yield* settle
        expect(ann.answer(id)).toMatchObject({ code: "publish/forbidden" })
        expect(ann.answer(next)).toMatchObject({ code: "publish/forbidden" })
        expect(dataOf(ann).flat()).toHaveLength(10)
      }),
      {
        authorize: ({ action, channel }) =>
          Effect.sync(() => {
            asked.push(`${action} ${channel}`)
            return action === "subscribe" || allowed
          })
      }
    )
  })

  it.effect("is asked again after reauthorize", () => {
    let allowed = true
    return Effect.gen(function* () {
      const door = yield* TestDoor
      const ann = yield* visit({ token: "ann" })
      const first = publish(ann, { user: "ann", x: 1 })
      yield* settle
      expect(ann.answer(first)?.type).toBe("published")
      allowed = false
      yield* door.reauthorize("ann")
      const second = publish(ann, { user: "ann", x: 2 })
      yield* settle
      expect(ann.answer(second)).toMatchObject({ code: "publish/forbidden" })
    }).pipe(
      Effect.scoped,
      Effect.provide(
        layerDoor({
          channels: [Pointers],
          authenticate: ({ token }) => Effect.succeed({ identity: token! }),
          authorize: () => Effect.sync(() => allowed)
        })
      )
    )
  })
})

describe("Volatile publishes that wait while rights change", () => {
  it.effect("ask authorize again together, not each", () => {
    const latches = [Latch.makeUnsafe(), Latch.makeUnsafe(), Latch.makeUnsafe(true)]
    const asked = { subscribe: 0, publish: 0, present: 0 }
    return Effect.gen(function* () {
      const door = yield* TestDoor
      const ann = yield* visit({ token: "ann" })
      const reauthorize = Effect.forkChild(door.reauthorize("ann"), { startImmediately: true })
      ann.send({ type: "subscribe", id: 1, channel: "pointers" })
      yield* settle
      yield* reauthorize
      latches[0]!.openUnsafe()
      yield* settle
      expect(asked.subscribe).toBe(2)
      // They wait behind the subscription, which is decided about again.
      const ids = [1, 2, 3, 4, 5].map((x) => publish(ann, { user: "ann", x }))
      yield* settle
      expect([asked.publish, ann.answer(ids[0]!)]).toEqual([1, undefined])
      yield* reauthorize
      latches[1]!.openUnsafe()
      yield* settle
      expect(ids.map((id) => ann.answer(id)?.type)).toEqual(ids.map(() => "published"))
      expect(asked).toMatchObject({ subscribe: 3, publish: 2 })
    }).pipe(
      Effect.scoped,
      Effect.provide(
        layerDoor({
          channels: [Pointers],
          authenticate: ({ token }) => Effect.succeed({ identity: token! }),
          authorize: ({ action }: Request<string>) => {
            const nth = asked[action]++
            return action === "publish"
              ? Effect.succeed(true)
              : Effect.as(latches[nth]!.await, true)
          }
        })
      )
    )
  })
})

describe("A subscription that is decided about again before it begins", () => {
  it.effect("receives nothing until then, and nothing at all if authorize rejects it", () => {
    const first = Latch.makeUnsafe()
    const second = Latch.makeUnsafe()
    let asked = 0
    return Effect.gen(function* () {
      const door = yield* TestDoor
      const ann = yield* visit({ token: "ann" })
      ann.send({ type: "subscribe", id: 1, channel: "pointers" })
      yield* settle
      yield* Effect.forkChild(door.reauthorize("ann"), { startImmediately: true })
      first.openUnsafe()
      yield* settle
      expect(asked).toBe(2)
      yield* Realtime.publish(Pointers, { user: "bob", x: 1 })
      yield* settle
      expect(ann.frames.map(({ type }) => type)).toEqual(["welcome"])
      second.openUnsafe()
      yield* settle
      expect(ann.answer(1)).toMatchObject({ code: "channel/forbidden" })
      yield* Realtime.publish(Pointers, { user: "bob", x: 2 })
      yield* settle
      expect(ann.of("events")).toEqual([])
    }).pipe(
      Effect.scoped,
      Effect.provide(
        layerDoor({
          channels: [Pointers],
          authenticate: ({ token }) => Effect.succeed({ identity: token! }),
          authorize: () =>
            ++asked === 1 ? Effect.as(first.await, true) : Effect.as(second.await, false)
        })
      )
    )
  })
})

describe("A socket that is busy", () => {
  it.effect("receives the newest event of each key when it reads again, and no gap", () =>
    withDoor(
      Effect.gen(function* () {
        const ann = yield* subscriber()
        const slow = yield* subscriber("pointers", "typing_a")
        slow.reading = false
        // Fills the socket.
        publish(ann, { user: "ann", x: 0 })
        yield* settle
        for (const x of [1, 2, 3]) {
          for (const user of ["ann", "bob"]) publish(ann, { user, x })
          publish(ann, x % 2 === 0, "typing_a")
          yield* settle
        }
        slow.read()
        yield* settle
        expect(dataOf(slow)).toEqual([
          [{ user: "ann", x: 0 }],
          [
            { user: "ann", x: 3 },
            { user: "bob", x: 3 }
          ]
        ])
        expect(dataOf(slow, "typing_a")).toEqual([[false]])
        publish(ann, { user: "ann", x: 4 })
        yield* settle
        expect(dataOf(slow).at(-1)).toEqual([{ user: "ann", x: 4 }])
        expect([slow.of("gap"), slow.closeCode]).toEqual([[], undefined])
      })
    )
  )

  it.effect("receives without latestBy the newest event of each session, and of the server", () =>
    withDoor(
      Effect.gen(function* () {
        const ann = yield* subscriber()
        const bob = yield* subscriber()
        const slow = yield* subscriber("typing_a")
        slow.reading = false
        publish(ann, false, "typing_a")
        yield* settle
        for (const isTyping of [true, false]) {
          publish(ann, isTyping, "typing_a")
          publish(bob, !isTyping, "typing_a")
          yield* Realtime.publish(Typing("a"), isTyping)
          yield* Realtime.publish(Typing("a"), !isTyping, { key: "bot" })
          yield* settle
        }
        slow.read()
        yield* settle
        expect(dataOf(slow, "typing_a")).toEqual([[false], [false, true, false, true]])
      })
    )
  )

  it.effect("drops what waited of a channel that its client leaves", () =>
    withDoor(
      Effect.gen(function* () {
        const ann = yield* subscriber()
        const slow = yield* subscriber("pointers", "typing_a")
        slow.reading = false
        publish(ann, true, "typing_a")
        yield* settle
        publish(ann, { user: "ann", x: 1 })
        publish(ann, false, "typing_a")
        yield* settle
        slow.send({ type: "unsubscribe", id: 9, channel: "pointers" })
        yield* settle
        slow.read()
        yield* settle
        expect(dataOf(slow)).toEqual([])
        expect(dataOf(slow, "typing_a")).toEqual([[true], [false]])
      })
    )
  )

  it.effect("costs other channels nothing: their events wait whole, and none is dropped", () =>
    Effect.gen(function* () {
      const ann = yield* subscriber()
      const slow = yield* subscriber("pointers", "notes")
      slow.reading = false
      yield* Realtime.publish(Notes, { user: "n", x: 0 })
      yield* settle
      for (let n = 0; n < 100; n++) publish(ann, { user: `${n} ${"x".repeat(100)}`, x: n })
      for (let x = 1; x <= 4; x++) yield* Realtime.publish(Notes, { user: "n", x })
      yield* settle
      slow.read()
      yield* settle
      expect(dataOf(slow, "notes").flat()).toEqual([0, 1, 2, 3, 4].map((x) => ({ user: "n", x })))
      // At most 10 keys, and at most 2,000 bytes.
      const kept = dataOf(slow).flat()
      expect(kept.length).toBeGreaterThan(0)
      expect(kept.length).toBeLessThanOrEqual(10)
      expect(kept.at(-1)).toMatchObject({ x: 99 })
      expect([slow.of("gap"), slow.closeCode]).toEqual([[], undefined])
    }).pipe(
      Effect.scoped,
      Effect.provide(
        layerDoor({
          channels: [Notes, Pointers],
          authorize: allowAll,
          limits: { maxMailboxBytes: 2000, maxVolatileKeys: 10 }
        })
      )
    )
  )
})

describe("A Stream of a volatile channel", () => {
  it.effect("receives the newest event of each key while its consumer is busy", () =>
    withDoor(
      Effect.gen(function* () {
        const latch = Latch.makeUnsafe(true)
        const seen: Array<unknown> = []
        const fiber = yield* Realtime.events(Pointers).pipe(
          Stream.runForEach((event) => {
            seen.push(event._tag === "Event" ? event.payload : event.reason)
            if (event._tag === "Event") expect(event.cursor).toBeUndefined()
            return latch.await
          }),
          Effect.forkScoped({ startImmediately: true })
        )
        const ann = yield* subscriber()
        publish(ann, { user: "ann", x: 0 })
        yield* settle
        latch.closeUnsafe()
        publish(ann, { user: "ann", x: 1 })
        yield* settle
        for (let x = 2; x < 500; x++) {
          yield* Realtime.publish(Pointers, { user: x % 2 === 0 ? "ann" : "bob", x })
          yield* settle
        }
        latch.openUnsafe()
        yield* settle
        expect(seen).toEqual([
          { user: "ann", x: 0 },
          { user: "ann", x: 1 },
          { user: "ann", x: 498 },
          { user: "bob", x: 499 }
        ])
        yield* Fiber.interrupt(fiber)
      })
    )
  )

  it.effect("drops a message that its own Schema rejects, and goes on", () =>
    withDoor(
      Effect.gen(function* () {
        const Strict = Channel.make(
          "pointers",
          Schema.Struct({ user: Schema.String, x: Schema.Literal(1) }),
          { delivery: "volatile" }
        )
        const two = yield* Realtime.subscribe(Strict).pipe(
          Stream.take(2),
          Stream.runCollect,
          Effect.forkScoped({ startImmediately: true })
        )
        const ann = yield* subscriber()
        for (const x of [1, 2, 1]) publish(ann, { user: "ann", x })
        yield* settle
        expect(yield* Fiber.join(two)).toEqual([
          { user: "ann", x: 1 },
          { user: "ann", x: 1 }
        ])
      })
    )
  )
})

describe("The law of volatile channels", () => {
  const runs = long ? 300 : 30

  it.effect(
    "each subscriber's last event of each key equals the last one that was published, once its socket drains",
    () =>
      Effect.gen(function* () {
        for (let run = 0; run < runs; run++) {
          const { chance, int, pick } = random(seed + run)
          const hint = `REALTIME_TEST_SEED=${seed + run}`
          yield* withDoor(
            Effect.gen(function* () {
              const publishers = [yield* subscriber(), yield* subscriber()]
              const readers = [
                yield* subscriber("pointers"),
                yield* subscriber("pointers", "typing_a"),
                yield* subscriber("pointers")
              ]
              const published = new Map<string, number>()
              for (let x = 0; x < 150; x++) {
                const user = `user ${int(5)}`
                if (chance(0.7)) {
                  published.set(user, x)
                  publish(pick(publishers), { user, x })
                } else {
                  const reader = pick(readers)
                  const what = int(6)
                  if (what < 4) reader.reading = false
                  else if (what === 4) reader.read()
                  else reader.sip()
                }
                if (chance(0.6)) yield* settle
                yield* TestClock.adjust(20)
              }
              yield* settle
              for (const reader of readers) {
                reader.read()
                yield* settle
                const last = new Map<string, number>()
                for (const { user, x } of dataOf(reader).flat() as Array<typeof Pointer.Type>) {
                  expect(last.get(user) ?? -1, hint).toBeLessThan(x)
                  last.set(user, x)
                }
                expect(last, hint).toEqual(published)
                expect([reader.of("gap"), reader.closeCode], hint).toEqual([[], undefined])
              }
            }),
            // Room for every key once, and not for every event.
            { limits: { maxMailboxBytes: 2000 } }
          )
        }
      })
  )
})
