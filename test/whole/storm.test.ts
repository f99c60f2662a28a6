/**
 * 10,000 clients that lose one server do not come back together: real clients with the real backoff, a
 * real door that drains, in memory and under TestClock.
 *
 * Counted are attempts to connect, because those are what a server has to bear.
 */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Random, Schema, Scope, Stream } from "effect"
import { Channel } from "effect-realtime"
import { RealtimeServer } from "effect-realtime/server"
import { RealtimeTest } from "effect-realtime/testing"
import { TestClock } from "effect/testing"

const Orders = Channel.make("orders", Schema.Struct({ n: Schema.Int }))
const clients = 10_000
const bucketMillis = 100

/** Connects everybody, lets `happen` happen, and counts the attempts of each 100 ms until all are back. */
const storm = (happen: (test: RealtimeTest["Service"]) => Effect.Effect<void>) =>
  Effect.gen(function* () {
    const test = yield* RealtimeTest
    const scope = yield* Scope.make()
    const buckets = new Map<number, number>()
    const clock = yield* TestClock.testClockWith(Effect.succeed)
    const all = yield* Effect.forEach(Array.from({ length: clients }), () => test.connect()).pipe(
      Scope.provide(scope)
    )
    for (const { sync } of all) {
      sync.listen(Orders, { onEvents: () => {}, onEnd: () => {} })
    }
    yield* test.settle
    expect(yield* test.sockets).toBe(clients)
    for (const { sync } of all) {
      sync.connection.subscribe(() => {
        if (sync.connection.getSnapshot().status !== "connecting") return
        const bucket = Math.floor(clock.currentTimeMillisUnsafe() / bucketMillis)
        buckets.set(bucket, (buckets.get(bucket) ?? 0) + 1)
      })
    }
    const happening = yield* happen(test).pipe(Effect.forkChild({ startImmediately: true }))
    yield* TestClock.adjust("1 minute")
    yield* Fiber.join(happening)
    expect(yield* test.sockets).toBe(clients)
    yield* Scope.close(scope, Exit.void)
    const attempts = [...buckets.values()].reduce((sum, each) => sum + each, 0)
    return { attempts, most: Math.max(...buckets.values()) }
  }).pipe(
    Random.withSeed("storm"),
    Effect.provide(RealtimeTest.layer({ channels: [Orders], authorize: RealtimeServer.allowAll }))
  )

describe("19: a reconnect storm", () => {
  it.effect(
    `after a drain, no 100 ms see more than 3 % of ${clients} clients`,
    () =>
      Effect.gen(function* () {
        const t = performance.now()
        const { attempts, most } = yield* storm(({ server }) => server.restart)
        console.log(attempts, most, performance.now() - t)
        expect(most).toBeLessThanOrEqual(clients * 0.03)
      }),
    60_000
  )

  it.effect(
    `after a kill -9, no 100 ms see more than 8 % of ${clients} clients`,
    () =>
      Effect.gen(function* () {
        const t = performance.now()
        const { attempts, most } = yield* storm(({ server }) => server.kill)
        console.log(attempts, most, performance.now() - t)
        expect(most).toBeLessThanOrEqual(clients * 0.08)
        expect(attempts).toBe(clients)
      }),
    60_000
  )
})
