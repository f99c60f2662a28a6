/**
 * A node that drains: it reports not ready to balancers first, sends each client when to reconnect,
 * closes the sessions one by one, and takes no longer than its window.
 */
import { describe, expect, it } from "@effect/vitest"
import { Clock, Context, Effect, Fiber, Layer, Schema, type Scope } from "effect"
import { HttpRouter } from "effect/http"
import { TestClock } from "effect/testing"
import * as Channel from "../../src/Channel.ts"
import * as MemorySource from "../../src/server/MemorySource.ts"
import { NotificationSource } from "../../src/server/NotificationSource.ts"
import * as Realtime from "../../src/server/Realtime.ts"
import * as RealtimeServer from "../../src/server/RealtimeServer.ts"
import * as ServerError from "../../src/server/ServerError.ts"
import { allowAll, type AnonymousOptions } from "../../src/server/ServerOptions.ts"
import { layer } from "../support/app.ts"
import { layerDoor, settle, TestDoor, visit } from "../support/sessions.ts"

const Orders = Channel.make("orders", Schema.Struct({ id: Schema.Int }))
const options: AnonymousOptions = { channels: [Orders], authorize: allowAll }

const withDoor = <A, E>(
  body: Effect.Effect<A, E, TestDoor | Scope.Scope>,
  limits?: AnonymousOptions["limits"]
) => Effect.provide(Effect.scoped(body), layerDoor({ ...options, limits }))

/** `count` sessions, none of them limited by its address. */
const crowd = (count: number, polite = true) =>
  Effect.forEach(Array.from({ length: count }), () => visit({ address: "127.0.0.1", polite }))

/** The same, with the milliseconds after which each of them is closed. */
const timed = (count: number) =>
  Effect.gen(function* () {
    const clock = yield* Clock.Clock
    const visitors = yield* crowd(count)
    const start = clock.currentTimeMillisUnsafe()
    const closes: Array<number> = []
    for (const visitor of visitors) {
      const close = visitor.close.bind(visitor)
      visitor.close = (code, reason) => {
        closes.push(clock.currentTimeMillisUnsafe() - start)
        close(code, reason)
      }
    }
    return { closes, visitors }
  })

/** Drains, and returns the milliseconds that it took by the clock. */
const drained = Effect.gen(function* () {
  const door = yield* TestDoor
  const before = yield* Clock.currentTimeMillis
  const draining = yield* Effect.forkChild(door.drain, { startImmediately: true })
  while (draining.pollUnsafe() === undefined) yield* TestClock.adjust(10)
  yield* Fiber.join(draining)
  return (yield* Clock.currentTimeMillis) - before
})

describe("A drain of the server", () => {
  it.effect("a drain sends bye only to sessions that said hello, and closes all", () =>
    withDoor(
      Effect.gen(function* () {
        const silent = yield* visit({ hello: false })
        const greeted = yield* visit()
        yield* drained
        expect([silent.frames, silent.closeCode]).toEqual([[], 4000])
        expect([greeted.of("bye").length, greeted.closeCode]).toEqual([1, 4000])
      })
    )
  )

  it.effect("a drain reports not ready before it closes the first socket", () =>
    withDoor(
      Effect.gen(function* () {
        const door = yield* TestDoor
        const visitors = yield* crowd(20)
        const ready: Array<boolean> = []
        for (const visitor of visitors) {
          const close = visitor.close.bind(visitor)
          visitor.close = (code, reason) => {
            ready.push(door.isReady())
            close(code, reason)
          }
        }
        expect(door.isReady()).toBe(true)
        yield* drained
        expect(ready).toEqual(visitors.map(() => false))
      })
    )
  )

  it.effect("a drain gives each client its own delay, and spreads the closes over 1 s", () =>
    withDoor(
      Effect.gen(function* () {
        const { closes, visitors } = yield* timed(1000)
        expect(yield* drained).toBeLessThanOrEqual(1000)
        const delays = visitors.map((visitor) => visitor.last("bye")!.reconnectAfter)
        expect(new Set(visitors.map(({ closeCode }) => closeCode))).toEqual(new Set([4000]))
        const most = (times: ReadonlyArray<number>, millis: number) => {
          const buckets = new Map<number, number>()
          for (const time of times) {
            const bucket = Math.floor(time / millis)
            buckets.set(bucket, (buckets.get(bucket) ?? 0) + 1)
          }
          return Math.max(...buckets.values())
        }
        // Even 1,000 closes leave at most 3 % in one fiftieth of the window.
        expect(most(closes, 16)).toBeLessThanOrEqual(30)
        expect(closes.at(-1)! - closes[0]!).toBeGreaterThan(700)
        // No client is asked to stay away longer than the window, nor do they all reconnect together.
        expect(Math.max(...delays)).toBeLessThanOrEqual(1000)
        expect(most(delays, 100)).toBeLessThanOrEqual(150)
      }),
      { drainTimeout: "1 second" }
    )
  )

  it.effect(
    "a drain closes a session each 50 ms, and closes faster when its window is too short for all",
    () =>
      withDoor(
        Effect.gen(function* () {
          const { closes } = yield* timed(5)
          yield* drained
          expect(closes).toEqual([0, 50, 100, 150, 200])
        })
      ).pipe(
        Effect.andThen(
          withDoor(
            Effect.gen(function* () {
              yield* crowd(160)
              const took = yield* drained
              expect(took).toBeGreaterThan(7900)
              expect(took).toBeLessThanOrEqual(10_000)
            })
          )
        )
      )
  )

  it.effect("a drain takes no longer than its window, and cuts sessions that stay", () =>
    withDoor(
      Effect.gen(function* () {
        const visitors = yield* crowd(10, false)
        expect(yield* drained).toBe(1000)
        expect(visitors.map(({ terminated }) => terminated)).toEqual(visitors.map(() => true))
      }),
      { drainTimeout: "1 second" }
    )
  )

  it.effect("a drain does not wait for a session with a full socket", () =>
    withDoor(
      Effect.gen(function* () {
        const [visitor] = yield* crowd(1, false)
        visitor!.reading = false
        visitor!.send({ type: "unsubscribe", id: 1, channel: "orders" })
        yield* settle
        expect(yield* drained).toBeLessThan(100)
        expect(visitor!.terminated).toBe(true)
      })
    )
  )
})

describe("Readiness of the server", () => {
  it.live("the server is not ready while its source is down and while it drains", () =>
    Effect.gen(function* () {
      const { drain, isReady } = yield* RealtimeServer.RealtimeServer
      const source = yield* MemorySource.MemorySource
      const becomes = (wanted: boolean) =>
        Effect.repeat(Effect.andThen(Effect.sleep(1), isReady), { until: (is) => is === wanted })
      yield* becomes(true)
      yield* source.lose
      yield* becomes(false)
      yield* source.restore
      yield* becomes(true)
      yield* drain
      expect(yield* isReady).toBe(false)
    }).pipe(Effect.provide(layer(options)))
  )

  it.live("is waited for by ready: while the source is down, and for ever once it drains", () =>
    Effect.gen(function* () {
      const { drain, isReady, ready } = yield* RealtimeServer.RealtimeServer
      const source = yield* MemorySource.MemorySource
      yield* ready
      expect(yield* isReady).toBe(true)
      yield* source.lose
      yield* Effect.repeat(Effect.andThen(Effect.sleep(1), isReady), { until: (is) => !is })
      const waiting = yield* Effect.forkChild(ready, { startImmediately: true })
      yield* Effect.yieldNow
      expect(waiting.pollUnsafe()).toBeUndefined()
      yield* source.restore
      yield* Fiber.join(waiting)
      expect(yield* isReady).toBe(true)
      yield* drain
      const late = yield* Effect.forkChild(ready, { startImmediately: true })
      yield* source.lose
      yield* source.restore
      yield* Effect.repeat(Effect.yieldNow, { times: 100 })
      expect(late.pollUnsafe()).toBeUndefined()
    }).pipe(Effect.provide(layer(options)))
  )

  it.live("ready fails while the source is refused, and completes when it is up after all", () => {
    const refusing = Layer.effectContext(
      Effect.gen(function* () {
        const memory = yield* Layer.build(Layer.fresh(MemorySource.layer))
        const control = Context.get(memory, MemorySource.MemorySource)
        yield* control.lose
        return Context.make(NotificationSource, {
          ...Context.get(memory, NotificationSource),
          refused: Effect.fail(new ServerError.NotPrimary())
        }).pipe(Context.add(MemorySource.MemorySource, control))
      })
    )
    return Effect.gen(function* () {
      const { isReady, ready } = yield* RealtimeServer.RealtimeServer
      expect(yield* Effect.flip(ready)).toEqual(new ServerError.NotPrimary())
      expect(yield* isReady).toBe(false)
      yield* (yield* MemorySource.MemorySource).restore
      yield* Effect.repeat(Effect.yieldNow, { until: () => Effect.runSync(isReady) })
      yield* ready
    }).pipe(
      Effect.provide(
        RealtimeServer.layer(options).pipe(
          Layer.provide([HttpRouter.layer, Realtime.layer()]),
          Layer.provideMerge(refusing)
        )
      )
    )
  })
})
