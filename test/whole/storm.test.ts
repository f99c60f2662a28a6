/**
 * Clients that lose one server spread their reconnects: real clients with the real backoff, a real
 * door that crashes and drains, in memory and under TestClock.
 *
 * The test counts attempts to connect, because those are the server's load.
 */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Fiber, Random, Schema } from "effect"
import { Channel } from "effect-realtime"
import { RealtimeServer } from "effect-realtime/server"
import { RealtimeTest } from "effect-realtime/testing"
import { TestClock } from "effect/testing"
import { long } from "../server/support/random.ts"

/** Of how many clients, and the most attempts of them in 100 ms: 8 % after a crash, 3 % after a drain. */
const clients = long ? 10_000 : 3000
const most = { killed: 0.08 * clients, drained: 0.03 * clients }

const Orders = Channel.make("orders", Schema.Struct({ n: Schema.Int }))

const system = RealtimeTest.layer({ channels: [Orders], authorize: RealtimeServer.allowAll })

/** Connects and subscribes all clients, and counts their attempts per 100 ms of a storm. */
const crowd = Effect.gen(function* () {
  const test = yield* RealtimeTest.RealtimeTest
  const clock = yield* TestClock.testClockWith(Effect.succeed)
  let buckets = new Map<number, number>()
  for (let client = 0; client < clients; client++) {
    const { sync } = yield* test.connect()
    sync.connection.subscribe(() => {
      if (sync.connection.getSnapshot().status !== "connecting") return
      const bucket = Math.floor(clock.currentTimeMillisUnsafe() / 100)
      buckets.set(bucket, (buckets.get(bucket) ?? 0) + 1)
    })
    sync.listen(Orders, { onEvents: () => {}, onEnd: () => {} })
  }
  yield* test.settle
  return (what: Effect.Effect<void>) =>
    Effect.gen(function* () {
      buckets = new Map()
      const happening = yield* what.pipe(Effect.forkChild({ startImmediately: true }))
      do yield* TestClock.adjust("1 second")
      while (happening.pollUnsafe() === undefined || (yield* test.sockets) < clients)
      yield* Fiber.join(happening)
      const counts = [...buckets.values()]
      return { most: Math.max(...counts), attempts: counts.reduce((sum, each) => sum + each, 0) }
    })
})

describe("a reconnect storm", () => {
  it.effect(
    `of ${clients} clients has at most ${most.killed} attempts in 100 ms after a crash, and ${most.drained} after a drain`,
    () =>
      Effect.gen(function* () {
        const { server, sockets } = yield* RealtimeTest.RealtimeTest
        const storm = yield* crowd
        expect(yield* sockets).toBe(clients)
        const killed = yield* storm(server.kill)
        expect(killed.attempts).toBe(clients)
        expect(killed.most).toBeLessThanOrEqual(most.killed)
        const drained = yield* storm(server.replace)
        expect(drained.attempts).toBe(clients)
        expect(drained.most).toBeLessThanOrEqual(most.drained)
      }).pipe(Random.withSeed("storm"), Effect.provide(system)),
    300_000
  )
})
