/**
 * Every limit of a session, crossed by exactly one, and not crossed by one less. The limits of the
 * upgrade are in `internal/door/admission.test.ts` and, with real sockets, at the end.
 */
import { describe, expect, it } from "@effect/vitest"
import { Clock, Deferred, Effect, Fiber, Layer, Schema, type Scope } from "effect"
import { TestClock } from "effect/testing"
import * as Channel from "../../src/Channel.ts"
import type { Rate } from "../../src/server/internal/options.ts"
import { checkOptions, resolveLimits } from "../../src/server/internal/limits/limits.ts"
import { type NotificationSource } from "../../src/server/NotificationSource.ts"
import * as MemorySource from "../../src/server/MemorySource.ts"
import * as Realtime from "../../src/server/Realtime.ts"
import {
  allowAll,
  type AnonymousOptions,
  type Authorize,
  type Limits,
  type Options
} from "../../src/server/ServerOptions.ts"
import { sleepy } from "../client/support/clock.ts"
import * as App from "../support/app.ts"
import { layerDoor, refusals, settle, TestDoor, visit, type Visitor } from "../support/sessions.ts"
import { connect, greet } from "../support/wire.ts"

const Orders = Channel.make("orders", Schema.Struct({ id: Schema.Int }))
const Text = Channel.make("text", Schema.String)
const Room = Channel.family("room_", Schema.String, Schema.Unknown, { publish: true })
const channels = [Orders, Text, Room]
const plenty = { perSecond: 1_000_000, burst: 1_000_000 }

type Needs =
  | TestDoor
  | Realtime.Realtime
  | MemorySource.MemorySource
  | NotificationSource
  | Scope.Scope

const withDoor = <A, E, I = undefined>(
  body: Effect.Effect<A, E, Needs>,
  more?: Partial<Options<I>>
) =>
  // Visitors leave before the server closes: it would wait for them by a clock that stands still.
  Effect.provide(
    Effect.scoped(body),
    layerDoor({ channels, authorize: allowAll, ...more } as Options<I>)
  )

/** Runs the test, which must be rejected exactly once for this reason. */
const refusing = <A, E, I = undefined>(
  reason: string,
  body: Effect.Effect<A, E, Needs>,
  limits: Limits = {},
  more?: Partial<Options<I>>
) =>
  Effect.gen(function* () {
    const before = yield* refusals(reason)
    yield* withDoor(body, { ...more, limits } as Partial<Options<I>>)
    expect(yield* refusals(reason)).toBe(before + 1)
  })

const nested = (levels: number) =>
  JSON.stringify({
    type: "publish",
    id: levels,
    channel: "room_a",
    key: "k",
    // The frame itself is the first level.
    data: Array.from({ length: levels - 1 }).reduce((inner) => [inner], 1)
  })

const subscribe = (visitor: Visitor, id: number, channel: string) =>
  visitor.send({ type: "subscribe", id, channel })

describe("The messages of a client", () => {
  it.effect("a message may nest 64 levels, and is rejected with 65", () =>
    refusing(
      "maxFrameDepth",
      Effect.gen(function* () {
        const visitor = yield* visit()
        visitor.send(nested(64))
        visitor.send(nested(65))
        yield* settle
        expect(visitor.answer(64)?.type).toBe("published")
        expect(visitor.answer(65)).toMatchObject({ code: "frame/malformed", retry: "never" })
        expect(visitor.closeCode).toBeUndefined()
      })
    )
  )

  it.effect("400 messages at once and 200 per second pass, and one more closes with 4003", () =>
    refusing(
      "frameRate",
      Effect.gen(function* () {
        const visitor = yield* visit()
        const pongs = (count: number) => {
          for (let n = 0; n < count; n++) visitor.send({ type: "pong" })
        }
        // One was hello.
        pongs(399)
        yield* TestClock.adjust(1000)
        pongs(200)
        expect(visitor.closeCode).toBeUndefined()
        pongs(1)
        expect(visitor.closeCode).toBe(4003)
      })
    )
  )

  it.effect("a WebSocket ping counts as a message", () =>
    refusing(
      "frameRate",
      Effect.gen(function* () {
        const visitor = yield* visit()
        for (let n = 0; n < 399; n++) visitor.ears.receiveControl()
        expect(visitor.closeCode).toBeUndefined()
        visitor.ears.receiveControl()
        expect(visitor.closeCode).toBe(4003)
      })
    )
  )
})

describe("Unanswered requests", () => {
  const never = { authorize: () => Effect.never }

  it.effect("a session may have 100 unanswered requests, and 101 close it with 4003", () =>
    refusing(
      "maxUnanswered",
      Effect.gen(function* () {
        const visitor = yield* visit()
        for (let id = 1; id <= 100; id++) subscribe(visitor, id, `room_${id}`)
        yield* settle
        expect(visitor.closeCode).toBeUndefined()
        subscribe(visitor, 101, "room_101")
        expect(visitor.closeCode).toBe(4003)
      }),
      {},
      never
    )
  )

  it.effect("a session may send 100 requests while its token is checked", () =>
    refusing(
      "maxUnanswered",
      Effect.gen(function* () {
        const visitor = yield* visit({ token: "t" })
        for (let id = 1; id <= 100; id++) subscribe(visitor, id, `room_${id}`)
        expect(visitor.closeCode).toBeUndefined()
        subscribe(visitor, 101, "room_101")
        expect(visitor.closeCode).toBe(4003)
      }),
      {},
      { authenticate: () => Effect.never, authorize: allowAll }
    )
  )

  it.effect("a socket with over 256 KiB of unanswered requests is paused until few are left", () =>
    Effect.gen(function* () {
      const gate = yield* Deferred.make<boolean>()
      yield* withDoor(
        Effect.gen(function* () {
          const visitor = yield* visit()
          const frame = { type: "publish", id: 1, channel: "room_a", key: "k", data: "" }
          // The frame is an object, which counts 56 bytes more than its text.
          const rest = 256 * 1024 - 56 - JSON.stringify(frame).length
          visitor.send({ ...frame, data: "x".repeat(rest) })
          expect(visitor.paused).toBe(false)
          subscribe(visitor, 2, "room_b")
          expect(visitor.paused).toBe(true)
          yield* Deferred.succeed(gate, true)
          yield* settle
          expect(visitor.paused).toBe(false)
          expect(visitor.answer(1)).toMatchObject({ code: "publish/too-large" })
          expect(visitor.answer(2)?.type).toBe("subscribed")
        }),
        { authorize: () => Deferred.await(gate) }
      )
    })
  )

  it.effect("unanswered requests count the memory of their values, not their text", () =>
    refusing(
      "maxUnansweredBytes",
      Effect.gen(function* () {
        const visitor = yield* visit()
        const data = (count: number) => Array.from({ length: count }, () => ({}))
        const frame = (id: number, count: number) => ({
          type: "publish",
          id,
          channel: "room_a",
          key: "k",
          data: data(count)
        })
        // 59 bytes each with its comma; 56 for the frame and 56 for the list.
        const all = (256 * 1024 - JSON.stringify(frame(1, 0)).length - 2 * 56 + 1) / 59
        visitor.send(frame(1, Math.floor(all)))
        expect(visitor.paused).toBe(false)
        visitor.send({ type: "unsubscribe", id: 2, channel: "room_a" })
        expect(visitor.paused).toBe(true)
      }),
      {},
      never
    )
  )

  it.effect("a session is not closed as silent while the server has paused its socket", () =>
    withDoor(
      Effect.gen(function* () {
        const visitor = yield* visit()
        subscribe(visitor, 1, "room_a")
        subscribe(visitor, 2, "room_b")
        expect(visitor.paused).toBe(true)
        yield* TestClock.adjust("60 seconds")
        expect(visitor.closeCode).toBeUndefined()
        visitor.leave()
      }),
      {
        authorize: () => Effect.never,
        limits: { maxUnansweredBytes: 60, authorizeTimeout: "2 minutes" }
      }
    )
  )
})

describe("The rates of a session", () => {
  const rates = [
    ["authenticate", "authenticateRate", 5, 1000],
    ["subscribe", "subscribeRate", 100, 20],
    ["publish", "publishRate", 50, 50]
  ] as const
  it.effect.each(rates)("%s: %s allows %i at once, one per %i ms", ([type, limit, burst, every]) =>
    refusing(
      limit,
      Effect.gen(function* () {
        const visitor = yield* visit({ token: "t" })
        let id = 0
        const ask = () => {
          id++
          visitor.send({ type, id, channel: `room_${id}`, key: `${id}`, data: 1, token: "t" })
        }
        for (let n = 0; n < burst; n++) ask()
        yield* settle
        expect(visitor.errors).toEqual([])
        ask()
        yield* settle
        expect(visitor.answer(id)).toMatchObject({
          code: "rate/limited",
          retry: "later",
          retryAfter: every
        })
        yield* TestClock.adjust(every)
        ask()
        yield* settle
        expect(visitor.errors).toEqual(["rate/limited"])
        expect(visitor.closeCode).toBeUndefined()
      }),
      { maxSubscriptions: 1000, maxUnanswered: 1000 },
      { authenticate: () => Effect.succeed({ identity: "ann" }), authorize: allowAll }
    )
  )
})

describe("The cost of a replay", () => {
  /**
   * A channel that remembers 256 events of so many bytes, and a client that resumes all of it
   * `times` times.
   */
  const resume = (bytes: number, times: number) =>
    Effect.gen(function* () {
      const visitor = yield* visit()
      subscribe(visitor, 0, "text")
      yield* settle
      const { cursor } = visitor.last("subscribed")!
      for (let n = 0; n < 256; n++) yield* Realtime.publish(Text, "x".repeat(bytes))
      yield* settle
      for (let id = 1; id <= times; id++) {
        visitor.send({ type: "unsubscribe", id: 1000, channel: "text" })
        visitor.send({ type: "subscribe", id, channel: "text", cursor })
        yield* settle
      }
      expect(
        visitor
          .of("subscribed")
          .slice(1)
          .every(({ state }) => state === "recovered")
      ).toBe(true)
      return visitor
    })

  it.effect("a replay counts as one more subscribe for each 64 KiB", () =>
    refusing(
      "subscribeRate",
      Effect.gen(function* () {
        // 31 times 64 KiB.
        const visitor = yield* resume(7990, 4)
        expect(visitor.errors).toEqual([])
        visitor.send({ type: "unsubscribe", id: 1000, channel: "text" })
        subscribe(visitor, 5, "orders")
        yield* settle
        expect(visitor.answer(5)).toMatchObject({ code: "rate/limited", retryAfter: 600 })
        yield* TestClock.adjust(600)
        subscribe(visitor, 6, "orders")
        yield* settle
        expect(visitor.answer(6)?.type).toBe("subscribed")
      })
    )
  )

  it.effect("a replay under 64 KiB counts as no further subscribe", () =>
    withDoor(
      Effect.gen(function* () {
        expect((yield* resume(250, 99)).errors).toEqual([])
      })
    )
  )
})

describe("The memory of live channels", () => {
  const small = { maxMemoryBytes: 1024 * 1024, linger: "1 second" } as const
  const large = "x".repeat(7000)

  /** The position of a client that left before the first event. */
  const leaves = Effect.gen(function* () {
    const visitor = yield* visit()
    subscribe(visitor, 1, "text")
    yield* settle
    visitor.leave()
    yield* Realtime.publish(Text, `1 ${large}`)
    yield* settle
    return visitor.last("subscribed")!.cursor!
  })

  /** The client resumes after a second event. */
  const comesBack = (cursor: string) =>
    Effect.gen(function* () {
      yield* Realtime.publish(Text, `2 ${large}`)
      yield* settle
      const visitor = yield* visit()
      visitor.send({ type: "subscribe", id: 1, channel: "text", cursor })
      yield* settle
      expect(visitor.answer(1)).toMatchObject({ state: "recovered" })
      const data = visitor.of("events").flatMap(({ events }) => events.map(({ data }) => data))
      expect(data).toEqual([`1 ${large}`, `2 ${large}`])
    })

  /** A subscriber keeps the channel open all the time. */
  const withWitness = <A, E>(body: Effect.Effect<A, E, Needs>) =>
    Effect.gen(function* () {
      subscribe(yield* visit(), 1, "text")
      yield* settle
      yield* body
    }).pipe(Effect.scoped, Effect.provide(layerDoor({ channels, authorize: allowAll }, small)))

  it.effect("a client that fills many channels does not displace a small channel's memory", () =>
    withWitness(
      Effect.gen(function* () {
        const cursor = yield* leaves
        const attacker = yield* visit()
        for (let n = 0; n < 10; n++) subscribe(attacker, n, `room_${n}`)
        yield* settle
        for (let n = 0; n < 1000; n++) {
          yield* Realtime.publish(Room(String(n % 10)), large)
          if (n % 50 === 0) yield* settle
        }
        yield* comesBack(cursor)
      })
    )
  )

  it.effect("a channel that closes frees its memory for others", () =>
    withWitness(
      Effect.gen(function* () {
        for (let n = 0; n < 3; n++) {
          const visitor = yield* visit()
          subscribe(visitor, 1, "room_a")
          yield* settle
          for (let n = 0; n < 200; n++) yield* Realtime.publish(Room("a"), large)
          yield* settle
          visitor.leave()
          yield* TestClock.adjust("2 seconds")
        }
        yield* comesBack(yield* leaves)
      })
    )
  )
})

describe("The time limits of a session", () => {
  it.effect("a session without hello for 10 s is closed with 4005", () =>
    refusing(
      "helloTimeout",
      Effect.gen(function* () {
        const visitor = yield* visit({ hello: false })
        const late = yield* visit({ hello: false })
        yield* TestClock.adjust("9 seconds")
        expect(visitor.closeCode).toBeUndefined()
        visitor.send({ type: "hello", version: 1 })
        yield* TestClock.adjust("1 second")
        expect(late.closeCode).toBe(4005)
        expect(visitor.closeCode).toBeUndefined()
        expect(late.frames).toEqual([])
      })
    )
  )

  it.effect("a silent session gets a ping after 25 s, and 4002 after 10 s more", () =>
    refusing(
      "pingTimeout",
      Effect.gen(function* () {
        const silent = yield* visit()
        const alive = yield* visit()
        yield* TestClock.adjust("24 seconds")
        expect(silent.of("ping")).toHaveLength(0)
        yield* TestClock.adjust("1 second")
        expect(silent.of("ping")).toHaveLength(1)
        alive.send({ type: "pong" })
        yield* TestClock.adjust("9 seconds")
        expect(silent.closeCode).toBeUndefined()
        yield* TestClock.adjust("1 second")
        expect(silent.closeCode).toBe(4002)
        expect(alive.closeCode).toBeUndefined()
      })
    )
  )

  it.effect("the time limits of a session hold although the clock goes back by an hour", () =>
    Effect.gen(function* () {
      const { clock, jump } = yield* sleepy
      yield* withDoor(
        Effect.gen(function* () {
          const silent = yield* visit()
          const mute = yield* visit({ hello: false, polite: false })
          const talking = yield* visit()
          yield* TestClock.adjust("5 seconds")
          jump(-3_600_000)
          yield* TestClock.adjust("11 seconds")
          expect(mute.closeCode).toBe(4005)
          jump(-3_600_000)
          yield* TestClock.adjust("3 seconds")
          expect(mute.terminated).toBe(true)
          yield* TestClock.adjust("23 seconds")
          expect(silent.of("ping")).toHaveLength(1)
          talking.send({ type: "pong" })
          jump(-3_600_000)
          yield* TestClock.adjust("26 seconds")
          talking.send({ type: "pong" })
          yield* TestClock.adjust("11 seconds")
          expect(silent.closeCode).toBe(4002)
          // The server must send a ping to a client although it is heard.
          const before = talking.of("ping").length
          jump(-3_600_000)
          for (let second = 0; second < 26; second++) {
            talking.send({ type: "pong" })
            yield* TestClock.adjust("1 second")
          }
          expect(talking.of("ping")).toHaveLength(before + 1)
        })
      ).pipe(Effect.provideService(Clock.Clock, clock))
    })
  )

  it.effect("a socket that does not answer a close frame is cut after 2 s", () =>
    withDoor(
      Effect.gen(function* () {
        const rude = yield* visit({ hello: false, polite: false })
        yield* TestClock.adjust("10 seconds")
        expect(rude.closeCode).toBe(4005)
        yield* TestClock.adjust("1 second")
        expect(rude.terminated).toBe(false)
        yield* TestClock.adjust("1 second")
        expect(rude.terminated).toBe(true)
      })
    )
  )

  it.effect("a subscribe that waits 10 s for the source is rejected with source/down", () =>
    refusing(
      "sourceTimeout",
      Effect.gen(function* () {
        yield* (yield* MemorySource.MemorySource).lose
        const visitor = yield* visit()
        subscribe(visitor, 1, "orders")
        yield* TestClock.adjust(9999)
        expect(visitor.answer(1)).toBeUndefined()
        yield* TestClock.adjust(1)
        expect(visitor.answer(1)).toMatchObject({ code: "source/down", retry: "later" })
      })
    )
  )

  it.effect("a draining node cuts a session that stays longer than the limit", () =>
    refusing(
      "drainTimeout",
      Effect.gen(function* () {
        const rude = yield* visit({ polite: false })
        const polite = yield* visit()
        const door = yield* TestDoor
        const draining = yield* Effect.forkChild(door.drain, { startImmediately: true })
        yield* TestClock.adjust(899)
        expect([polite.closeCode, rude.closeCode, rude.terminated]).toEqual([4000, 4000, false])
        yield* TestClock.adjust(1)
        expect([polite.terminated, rude.terminated]).toEqual([false, true])
        yield* Fiber.join(draining)
      }),
      { drainTimeout: 900 }
    )
  )

  const hanging = [
    ["that never completes", Effect.never],
    ["that never completes and cannot be interrupted", Effect.uninterruptible(Effect.never)]
  ] as const
  it.effect.each(hanging)(
    "a subscribe is rejected with server/internal after 5 s with an authorize %s",
    ([, never]) =>
      refusing(
        "authorizeTimeout",
        Effect.gen(function* () {
          const visitor = yield* visit()
          subscribe(visitor, 1, "orders")
          yield* TestClock.adjust(4999)
          expect(visitor.answer(1)).toBeUndefined()
          yield* TestClock.adjust(1)
          expect(visitor.answer(1)).toMatchObject({ code: "server/internal", retry: "later" })
        }),
        {},
        { authorize: () => never }
      )
  )

  it.effect.each(hanging)(
    "a session is rejected with server/internal and closed with 4003 after 5 s with an authenticate %s",
    ([, never]) =>
      refusing(
        "authorizeTimeout",
        Effect.gen(function* () {
          const visitor = yield* visit({ token: "t" })
          yield* TestClock.adjust(4999)
          expect(visitor.closeCode).toBeUndefined()
          yield* TestClock.adjust(1)
          expect(visitor.errors).toEqual(["server/internal"])
          expect(visitor.closeCode).toBe(4003)
        }),
        {},
        { authenticate: () => never, authorize: allowAll }
      )
  )

  it.effect("a session is closed with 4100 after maxTokenAge, although its token is valid", () =>
    refusing(
      "4100",
      Effect.gen(function* () {
        const visitor = yield* visit({ token: "t" })
        expect(visitor.last("welcome")?.expires).toBe(20_000)
        yield* TestClock.adjust("19 seconds")
        expect(visitor.closeCode).toBeUndefined()
        yield* TestClock.adjust("1 second")
        expect(visitor.closeCode).toBe(4100)
      }),
      { maxTokenAge: "20 seconds" },
      {
        authenticate: () => Effect.succeed({ identity: "ann", expires: new Date(3_600_000) }),
        authorize: allowAll
      }
    )
  )
})

describe("The limit of subscriptions", () => {
  it.effect("a session may have 100 subscriptions, and 101 are rejected", () =>
    refusing(
      "maxSubscriptions",
      Effect.gen(function* () {
        const visitor = yield* visit()
        for (let id = 1; id <= 100; id++) subscribe(visitor, id, `room_${id}`)
        yield* settle
        expect(visitor.errors).toEqual([])
        subscribe(visitor, 101, "room_101")
        yield* settle
        expect(visitor.answer(101)).toMatchObject({ code: "subscribe/limit", retry: "later" })
        visitor.send({ type: "unsubscribe", id: 102, channel: "room_7" })
        subscribe(visitor, 103, "room_101")
        yield* settle
        expect(visitor.answer(103)?.type).toBe("subscribed")
      }),
      { subscribeRate: plenty }
    )
  )
})

describe("The limit of sessions of one identity", () => {
  it.effect("an identity may have 20 sessions, and the next is closed with 4004", () =>
    refusing(
      "maxSessionsPerIdentity",
      Effect.gen(function* () {
        const first = yield* visit({ token: "ann" })
        for (let n = 0; n < 19; n++) {
          expect((yield* visit({ token: "ann" })).closeCode).toBeUndefined()
        }
        const over = yield* visit({ token: "ann" })
        expect(over.closeCode).toBe(4004)
        expect(over.frames).toEqual([])
        expect((yield* visit({ token: "bob" })).closeCode).toBeUndefined()
        first.leave()
        expect((yield* visit({ token: "ann" })).closeCode).toBeUndefined()
      }),
      {},
      {
        authenticate: ({ token }) => Effect.succeed({ identity: token ?? "" }),
        authorize: allowAll
      }
    )
  )

  it.effect("the sessions of an identity with an empty key are limited too", () =>
    refusing(
      "maxSessionsPerIdentity",
      Effect.gen(function* () {
        expect((yield* visit({ token: "" })).closeCode).toBeUndefined()
        expect((yield* visit({ token: "" })).closeCode).toBe(4004)
      }),
      { maxSessionsPerIdentity: 1 },
      {
        authenticate: ({ token }) => Effect.succeed({ identity: token ?? "" }),
        authorize: allowAll
      }
    )
  )
})

describe("A slow consumer", () => {
  /** A session with a blocked socket. */
  const blocked = Effect.gen(function* () {
    const visitor = yield* visit()
    subscribe(visitor, 1, "text")
    yield* settle
    visitor.reading = false
    const say = (text: string) => Effect.andThen(Realtime.publish(Text, text), settle)
    // The first event blocks: it lies in the socket and not in the mailbox.
    yield* say("x")
    return { visitor, say }
  })
  const frameBytes = (text: string, cursor: string) =>
    Buffer.byteLength(
      JSON.stringify({
        type: "events",
        channel: "text",
        cursor,
        events: [{ id: cursor, at: new Date(0).toISOString(), data: text }]
      })
    )

  it.effect("a slow session keeps 1 MiB of backlog, and gets a gap over it", () =>
    refusing(
      "maxMailboxBytes",
      Effect.gen(function* () {
        const { say, visitor } = yield* blocked
        const text = "x".repeat(7990)
        const each = frameBytes(text, visitor.last("subscribed")!.cursor!) + 4
        const fits = Math.floor((1024 * 1024) / each)
        for (let n = 0; n < fits; n++) yield* say(text)
        const before = yield* refusals("maxMailboxBytes")
        yield* say(text)
        expect(yield* refusals("maxMailboxBytes")).toBe(before + 1)
        yield* say("later")
        visitor.read()
        yield* settle
        expect(visitor.of("gap").map(({ reason }) => reason)).toEqual(["slow"])
        expect(visitor.last("events")?.events[0]?.data).toBe("later")
        expect(visitor.of("events")).toHaveLength(2)
        expect(visitor.closeCode).toBeUndefined()
      })
    )
  )

  it.effect("a slow session with a backlog under the limit receives every event", () =>
    withDoor(
      Effect.gen(function* () {
        const { say, visitor } = yield* blocked
        for (let n = 0; n < 100; n++) yield* say(`${n}`)
        visitor.read()
        yield* settle
        expect(visitor.of("gap")).toEqual([])
        expect(visitor.of("events").flatMap(({ events }) => events)).toHaveLength(101)
      })
    )
  )

  it.effect("a slow session is closed with 4001 when slowConsumer is disconnect", () =>
    refusing(
      "maxMailboxBytes",
      Effect.gen(function* () {
        const { say, visitor } = yield* blocked
        yield* say("x".repeat(500))
        expect(visitor.closeCode).toBeUndefined()
        yield* say("x".repeat(500))
        expect(visitor.closeCode).toBe(4001)
      }),
      { maxMailboxBytes: 1000 },
      { slowConsumer: "disconnect" }
    )
  )

  it.effect("a session that accepts no bytes for 30 s is closed with 4001 and cut", () =>
    refusing(
      "blockedTimeout",
      Effect.gen(function* () {
        const { visitor } = yield* blocked
        const pong = () => visitor.send({ type: "pong" })
        yield* TestClock.adjust(20_000)
        pong()
        yield* TestClock.adjust(9999)
        expect(visitor.closeCode).toBeUndefined()
        yield* TestClock.adjust(1)
        expect(visitor.closeCode).toBe(4001)
        expect(visitor.terminated).toBe(true)
      })
    )
  )

  it.effect("a session that accepts bytes within 30 s stays open", () =>
    withDoor(
      Effect.gen(function* () {
        const { say, visitor } = yield* blocked
        for (let n = 0; n < 3; n++) {
          yield* TestClock.adjust(20_000)
          visitor.send({ type: "pong" })
          visitor.read()
          visitor.reading = false
          yield* say("again")
        }
        expect(visitor.closeCode).toBeUndefined()
      })
    )
  )

  it.effect("a session that accepts 64 KiB in 29 s stays open and misses no event", () =>
    withDoor(
      Effect.gen(function* () {
        const { say, visitor } = yield* blocked
        for (let n = 0; n < 100; n++) yield* say("x".repeat(7900))
        const received = () => visitor.of("events").flatMap(({ events }) => events).length
        let sips = 0
        for (; received() < 101 && visitor.closeCode === undefined; sips++) {
          visitor.send({ type: "pong" })
          yield* TestClock.adjust(29_000)
          visitor.sip()
          yield* settle
        }
        // 800 KB at 2.2 KB/s.
        expect(sips).toBeGreaterThan(12)
        expect([received(), visitor.closeCode, visitor.of("gap")]).toEqual([101, undefined, []])
      })
    )
  )

  it.effect(
    "a blocked session is closed with 4001 when its unread answers alone exceed mailboxBytes",
    () =>
      refusing(
        "maxMailboxBytes",
        Effect.gen(function* () {
          const { visitor } = yield* blocked
          let asked = 0
          while (visitor.closeCode === undefined && asked < 1000) visitor.send(`${asked++}`)
          expect(visitor.closeCode).toBe(4001)
          // Each answer has about 120 bytes.
          expect(asked).toBeGreaterThan(5)
          expect(asked).toBeLessThan(15)
        }),
        { maxMailboxBytes: 1000, frameRate: plenty }
      )
  )

  it.effect("a session misses no event for the unread answers that wait beside it", () =>
    withDoor(
      Effect.gen(function* () {
        const { say, visitor } = yield* blocked
        for (let n = 0; n < 6; n++) visitor.send(`${n}`)
        yield* say("x".repeat(500))
        visitor.read()
        yield* settle
        expect(visitor.of("error")).toHaveLength(6)
        expect(visitor.of("gap")).toEqual([])
        expect(visitor.of("events")).toHaveLength(2)
      }),
      { limits: { maxMailboxBytes: 1000 } }
    )
  )
})

describe("Invalid options of the server", () => {
  const secret = "hunter2"
  const wrong: ReadonlyArray<readonly [string, Partial<AnonymousOptions>]> = [
    ["limits.maxSessions", { limits: { maxSessions: Number.NaN } }],
    ["limits.maxFrameBytes", { limits: { maxFrameBytes: 0 } }],
    ["limits.maxSubscriptions", { limits: { maxSubscriptions: Infinity } }],
    ["limits.frameRate", { limits: { frameRate: { perSecond: 0, burst: 10 } } }],
    ["limits.publishRate", { limits: { publishRate: { perSecond: 1, burst: 0.5 } } }],
    ["limits.pingInterval", { limits: { pingInterval: "Infinity" } }],
    ["limits.helloTimeout", { limits: { helloTimeout: Number.NaN } }],
    ["limits.helloTimeout", { limits: { helloTimeout: {} as unknown as number } }],
    ["limits.frameRate", { limits: { frameRate: 5 as unknown as Rate } }],
    ["limits.sessionPerAddress", { limits: { sessionPerAddress: 5 } as Limits }],
    ["limits", { limits: 5 as Limits }],
    ["limits", { limits: null as unknown as Limits }],
    ["authorize", { authorize: undefined as unknown as Authorize<undefined> }],
    ["authorize", { authorize: true as unknown as Authorize<undefined> }],
    ["authenticate", { authenticate: { secret } as unknown as undefined }],
    ["identityKey", { identityKey: secret as unknown as undefined }],
    ["slowConsumer", { slowConsumer: "drop" as "gap" }],
    ["slowConsumer", { slowConsumer: 1n as unknown as "gap" }],
    ["trustProxy", { trustProxy: -1 }],
    ["trustProxy", { trustProxy: true as unknown as number }],
    ["path", { path: "/realtime?token=1" }],
    ["path", { path: 5 as unknown as "/" }],
    ["origins", { origins: ["https://app.example/"] }],
    ["origins", { origins: ["HTTPS://app.example"] }],
    ["origins", { origins: ["app.example"] }],
    ["origins", { origins: ["*"] }],
    ["origins", { origins: ["null"] }],
    ["origins", { origins: "https://app.example" as unknown as ReadonlyArray<string> }]
  ]
  it.effect.each(wrong)("an invalid option is rejected at start: %s", ([option, more]) =>
    Effect.gen(function* () {
      const built = Layer.build(layerDoor({ channels, authorize: allowAll, ...more }))
      const error = yield* Effect.flip(Effect.scoped(built))
      expect(error).toMatchObject({ _tag: "InvalidOption", option })
      expect(error.message).toContain("must be")
      expect(error.message).not.toContain(secret)
    })
  )

  it("the error of a misspelt option or value lists the valid ones", () => {
    const limits = { sessionPerAddress: 5 } as Limits
    expect(() => resolveLimits(limits)).toThrow(
      /^The option limits\.sessionPerAddress is 5\. It must be one of .*, maxSessionsPerAddress, /
    )
    expect(() => checkOptions({ authorize: allowAll, slowConsumer: "drop" as "gap" })).toThrow(
      'The option slowConsumer is "drop". It must be "gap" or "disconnect".'
    )
  })

  it.effect("valid origins and limits are accepted", () =>
    withDoor(Effect.asVoid(visit()), {
      origins: ["https://app.example", "http://localhost:3000", "capacitor://localhost"],
      limits: {
        maxSessions: Infinity,
        maxSessionsPerAddress: Infinity,
        drainTimeout: 0,
        maxTokenAge: "Infinity"
      }
    })
  )
})

describe("Limits over real sockets", () => {
  /** Runs the test, which must be rejected `times` times for this reason. */
  const open = <A, E>(
    reason: string,
    times: number,
    body: Effect.Effect<A, E, App.Address | Scope.Scope>,
    more?: Partial<AnonymousOptions>
  ) =>
    Effect.gen(function* () {
      const before = yield* refusals(reason)
      yield* body.pipe(
        Effect.scoped,
        Effect.provide(App.layer({ channels, authorize: allowAll, ...more }))
      )
      expect(yield* refusals(reason)).toBe(before + times)
    })
  const here = Effect.map(App.Address, ({ ws }) => ws)
  const from = (address: string) => ({ headers: { "x-forwarded-for": address } })
  const statusOf = (address: string) =>
    Effect.gen(function* () {
      const refused = yield* Effect.flip(connect(yield* here, from(address)))
      return [refused.status, refused.headers["retry-after"]]
    })

  it.live("a message may have 65,536 bytes, and one more byte closes with 1009", () =>
    open(
      "maxFrameBytes",
      1,
      Effect.gen(function* () {
        const wire = yield* greet(yield* here)
        const frame = (bytes: number) => {
          const empty = { type: "publish", id: 1, channel: "room_a", key: "k", data: "" }
          return { ...empty, data: "x".repeat(bytes - JSON.stringify(empty).length) }
        }
        wire.send(frame(65_536))
        expect((yield* wire.next("error")).code).toBe("publish/too-large")
        wire.send(frame(65_537))
        expect(yield* wire.closed).toBe(1009)
      })
    )
  )

  it.live("a node at its limit of sessions rejects with 503 until one leaves", () =>
    open(
      "maxSessions",
      1,
      Effect.gen(function* () {
        yield* greet(yield* here)
        const second = yield* greet(yield* here)
        expect(yield* statusOf("203.0.113.1")).toEqual([503, "1"])
        second.socket.close()
        yield* second.closed
        yield* greet(yield* here)
      }),
      { limits: { maxSessions: 2 } }
    )
  )

  it.live("an address at its limit of sessions is rejected with 429, other addresses not", () =>
    open(
      "maxSessionsPerAddress",
      1,
      Effect.gen(function* () {
        const url = yield* here
        const first = yield* greet(url, from("2001:db8::1"))
        yield* greet(url, from("2001:db8::2"))
        expect(yield* statusOf("2001:db8::3")).toEqual([429, "1"])
        yield* greet(url, from("2001:db8:0:1::1"))
        first.socket.close()
        yield* first.closed
        yield* greet(url, from("2001:db8::3"))
      }),
      { trustProxy: 1, limits: { maxSessionsPerAddress: 2 } }
    )
  )

  it.live("an address over its rate of upgrades is rejected with 429 and Retry-After", () =>
    open(
      "upgradeRatePerAddress",
      1,
      Effect.gen(function* () {
        const url = yield* here
        for (let n = 0; n < 3; n++) yield* connect(url, from("203.0.113.1"))
        expect(yield* statusOf("203.0.113.1")).toEqual([429, "10"])
        yield* connect(url, from("203.0.113.2"))
      }),
      { trustProxy: 1, limits: { upgradeRatePerAddress: { perSecond: 0.1, burst: 3 } } }
    )
  )

  it.live("a node over its rate of upgrades rejects with 503 and Retry-After", () =>
    open(
      "upgradeRate",
      1,
      Effect.gen(function* () {
        const url = yield* here
        for (let n = 0; n < 3; n++) yield* connect(url)
        expect(yield* statusOf("203.0.113.1")).toEqual([503, "10"])
      }),
      { limits: { upgradeRate: { perSecond: 0.1, burst: 3 } } }
    )
  )

  it.live("limits by address do not apply to local clients without trustProxy", () =>
    open(
      "maxSessionsPerAddress",
      0,
      Effect.gen(function* () {
        const url = yield* here
        for (let n = 0; n < 5; n++) yield* connect(url, from("203.0.113.1"))
      }),
      { limits: { maxSessionsPerAddress: 1, upgradeRatePerAddress: { perSecond: 0.1, burst: 1 } } }
    )
  )

  it.effect("a channel without subscribers is closed to make room for another channel", () =>
    Effect.gen(function* () {
      const hog = yield* visit()
      for (let n = 0; n < 10; n++) {
        for (const type of ["subscribe", "unsubscribe"]) {
          hog.send({ type, id: 1, channel: `room_${n}` })
          yield* settle
        }
      }
      const other = yield* visit()
      subscribe(other, 1, "room_x")
      yield* settle
      expect(other.answer(1)?.type).toBe("subscribed")
    }).pipe(
      Effect.scoped,
      Effect.provide(layerDoor({ channels, authorize: allowAll }, { maxChannels: 10 }))
    )
  )
})
