/**
 * A session by itself: its phases, its end, and that it does nothing after its end.
 */
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Effect, Schema, type Scope } from "effect"
import { TestClock } from "effect/testing"
import * as Channel from "../../../../src/Channel.ts"
import { type NotificationSource } from "../../../../src/server/NotificationSource.ts"
import * as MemorySource from "../../../../src/server/MemorySource.ts"
import * as Realtime from "../../../../src/server/Realtime.ts"
import { allowAll, type AnonymousOptions } from "../../../../src/server/ServerOptions.ts"
import { layerDoor, settle, TestDoor, visit } from "../../../support/sessions.ts"

const Orders = Channel.make("orders", Schema.Struct({ id: Schema.Int }))
const Moves = Channel.make("moves", Schema.Struct({ id: Schema.Int }), { publish: true })

type Needs =
  | TestDoor
  | Realtime.Realtime
  | MemorySource.MemorySource
  | NotificationSource
  | Scope.Scope

const withDoor = <A, E>(body: Effect.Effect<A, E, Needs>, more?: Partial<AnonymousOptions>) =>
  Effect.provide(
    Effect.scoped(body),
    layerDoor({ channels: [Orders, Moves], authorize: allowAll, ...more })
  )

describe("The first frames of a session", () => {
  const firsts = [
    ['{"type":"subscribe","id":1,"channel":"orders"}', 4200],
    ['{"type":"pong"}', 4200],
    ['{"type":"hello"}', 4200],
    ['{"type":"hello","version":"1"}', 4200],
    ['{"type":"hello","version":1,"token":7}', 4200],
    ['{"type":"hello","version":1,"__proto__":{}}', 4200],
    ["[]", 4200],
    ["", 4200],
    ['{"type":"hello","version":0}', 4201],
    ['{"type":"hello","version":2}', 4201]
  ] as const
  it.effect.each(firsts)("the server closes a session that starts with %s", ([first, code]) =>
    withDoor(
      Effect.gen(function* () {
        const visitor = yield* visit({ hello: false })
        visitor.send(first)
        expect(visitor.closeCode).toBe(code)
        visitor.send({ type: "hello", version: 1 })
        yield* settle
        expect(visitor.frames).toEqual([])
      })
    )
  )

  it.effect("a binary frame closes a new session with 4200, and is malformed in an open one", () =>
    withDoor(
      Effect.gen(function* () {
        const early = yield* visit({ hello: false })
        early.ears.receiveBinary()
        expect(early.closeCode).toBe(4200)
        const later = yield* visit()
        later.ears.receiveBinary()
        expect(later.errors).toEqual(["frame/malformed"])
        expect(later.closeCode).toBeUndefined()
      })
    )
  )

  it.effect("the welcome frame has the limits as whole numbers", () =>
    withDoor(
      Effect.gen(function* () {
        const welcome = (yield* visit()).last("welcome")
        expect(welcome).toMatchObject({
          ping: 1500,
          slack: 500,
          limits: { subscriptions: 7, frameBytes: 999, publishPerSecond: 1, volatilePerSecond: 60 }
        })
      }),
      {
        limits: {
          pingInterval: "1.5 seconds",
          pingTimeout: 500.4,
          maxSubscriptions: 7,
          maxFrameBytes: 999,
          publishRate: { perSecond: 0.1, burst: 1 }
        }
      }
    )
  )

  it.effect("an open session receives status down and up, and one without hello nothing", () =>
    withDoor(
      Effect.gen(function* () {
        const source = yield* MemorySource.MemorySource
        yield* source.lose
        const visitor = yield* visit()
        const silent = yield* visit({ hello: false })
        expect(visitor.frames.map(({ type }) => type)).toEqual(["welcome", "status"])
        yield* source.restore
        yield* settle
        expect(visitor.of("status").map(({ source }) => source)).toEqual(["down", "up"])
        expect(silent.frames).toEqual([])
      })
    )
  )
})

describe("A closing session", () => {
  it.effect("a closing session handles no frame, sends no frame and publishes nothing", () =>
    withDoor(
      Effect.gen(function* () {
        const watcher = yield* visit()
        watcher.send({ type: "subscribe", id: 1, channel: "moves" })
        const visitor = yield* visit({ polite: false })
        visitor.send({ type: "subscribe", id: 1, channel: "orders" })
        yield* settle
        visitor.send({ type: "hello", version: 1 })
        expect(visitor.closeCode).toBe(4200)
        const before = visitor.frames.length
        visitor.send({ type: "publish", id: 2, channel: "moves", key: "k", data: { id: 1 } })
        visitor.send("rubbish")
        yield* Realtime.publish(Orders, { id: 1 })
        yield* settle
        expect(visitor.frames).toHaveLength(before)
        expect(watcher.of("events")).toEqual([])
      })
    )
  )

  it.effect("a closing session is cut after 2 s if its client does not answer", () =>
    withDoor(
      Effect.gen(function* () {
        const visitor = yield* visit({ polite: false })
        visitor.send({ type: "hello", version: 1 })
        yield* TestClock.adjust("1 second")
        expect(visitor.closeCode).toBe(4200)
        expect(visitor.terminated).toBe(false)
        yield* TestClock.adjust("1 second")
        expect(visitor.terminated).toBe(true)
        expect((yield* TestDoor).size()).toBe(0)
      })
    )
  )

  it.effect("a session with a broken WebSocket is cut after 2 s if its client stays", () =>
    withDoor(
      Effect.gen(function* () {
        const visitor = yield* visit({ polite: false })
        visitor.ears.broken(1009)
        visitor.send({ type: "subscribe", id: 1, channel: "orders" })
        yield* TestClock.adjust("2 seconds")
        expect(visitor.terminated).toBe(true)
        expect(visitor.of("subscribed")).toEqual([])
      })
    )
  )

  it.effect("a paused session that closes is read again, so that the close answer arrives", () =>
    withDoor(
      Effect.gen(function* () {
        const visitor = yield* visit({ polite: false })
        visitor.send({ type: "subscribe", id: 1, channel: "orders" })
        expect(visitor.paused).toBe(true)
        visitor.ears.broken(1002)
        expect(visitor.paused).toBe(false)
      }),
      { authorize: () => Effect.never, limits: { maxUnansweredBytes: 10 } }
    )
  )
})

describe("A session that left", () => {
  it.effect("a session that leaves during a subscribe frees its place and its channels", () =>
    Effect.gen(function* () {
      const gate = yield* Deferred.make<boolean>()
      yield* withDoor(
        Effect.gen(function* () {
          const door = yield* TestDoor
          const source = yield* MemorySource.MemorySource
          const visitor = yield* visit()
          visitor.send({ type: "subscribe", id: 1, channel: "orders" })
          yield* settle
          visitor.send({ type: "subscribe", id: 2, channel: "moves" })
          yield* settle
          visitor.leave()
          yield* Deferred.succeed(gate, true)
          yield* settle
          expect(door.size()).toBe(0)
          yield* TestClock.adjust("2 minutes")
          expect(yield* source.listening).toEqual([])
        }),
        {
          authorize: ({ channel }) =>
            channel === "orders" ? Effect.succeed(true) : Deferred.await(gate)
        }
      )
    })
  )

  it.effect("a session that leaves while the source is down frees its channels", () =>
    withDoor(
      Effect.gen(function* () {
        const source = yield* MemorySource.MemorySource
        yield* source.lose
        const visitor = yield* visit()
        visitor.send({ type: "subscribe", id: 1, channel: "orders" })
        yield* settle
        visitor.leave()
        yield* source.restore
        yield* TestClock.adjust("2 minutes")
        expect(yield* source.listening).toEqual([])
      })
    )
  )
})

describe("The heartbeat of a session", () => {
  it.effect("the server pings a quiet client, and never closes a client that answers", () =>
    withDoor(
      Effect.gen(function* () {
        const visitor = yield* visit()
        for (let n = 0; n < 10; n++) {
          yield* TestClock.adjust("20 seconds")
          visitor.send({ type: "pong" })
        }
        // The server sent nothing for 25 s, so the client must learn that the server lives.
        expect(visitor.of("ping").length).toBeGreaterThan(5)
        expect(visitor.closeCode).toBeUndefined()
        visitor.leave()
      })
    )
  )

  it.effect("any frame and any WebSocket ping of a client keeps its session open", () =>
    withDoor(
      Effect.gen(function* () {
        const visitor = yield* visit()
        for (let n = 0; n < 6; n++) {
          yield* TestClock.adjust("20 seconds")
          if (n % 2 === 0) visitor.ears.receiveControl()
          else visitor.send("rubbish")
        }
        expect(visitor.closeCode).toBeUndefined()
      })
    )
  )
})
