// #region faults
import { Effect, Fiber, Stream } from "effect"
import { RealtimeClient } from "effect-realtime/client"
import { RealtimeServer } from "effect-realtime/server"
import { RealtimeTest } from "effect-realtime/testing"
import { TestClock } from "effect/testing"
import { DurableOrders } from "../channels.ts"

const shipped = (id: number) =>
  ({ operation: "UPDATE", data: { id, customer: "Ada", status: "shipped" } }) as const

/** What a page is told of three changes, of which it misses the second. */
export const deploy = Effect.gen(function* () {
  const test = yield* RealtimeTest.RealtimeTest
  const client = yield* RealtimeClient.RealtimeClient
  const told = yield* client
    .events(DurableOrders)
    .pipe(Stream.take(3), Stream.runCollect, Effect.forkChild)
  yield* test.settle
  yield* test.publish(DurableOrders, shipped(1))
  yield* test.server.stop
  yield* test.publish(DurableOrders, shipped(2))
  yield* test.server.start
  yield* TestClock.adjust("1 minute") // the page reconnects within it, and no time passes
  yield* test.publish(DurableOrders, shipped(3))
  return yield* Fiber.join(told)
}).pipe(
  Effect.provide(
    RealtimeTest.layer({ channels: [DurableOrders], authorize: RealtimeServer.allowAll })
  )
)
// #endregion
