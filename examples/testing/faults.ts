// #region faults
import { Effect, Fiber, Stream } from "effect"
import { RealtimeClient } from "effect-realtime/client"
import { RealtimeServer } from "effect-realtime/server"
import { RealtimeTest } from "effect-realtime/testing"
import { TestClock } from "effect/testing"
import { DurableOrders } from "../channels.ts"

const shipped = (id: number) =>
  ({ operation: "UPDATE", data: { id, customer: "Ada", status: "shipped" } }) as const

/** Returns what a page receives for three changes. The second one happens without a server. */
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
  yield* TestClock.adjust("1 minute") // the page reconnects in this minute of test time
  yield* test.publish(DurableOrders, shipped(3))
  return yield* Fiber.join(told)
}).pipe(
  Effect.provide(
    RealtimeTest.layer({ channels: [DurableOrders], authorize: RealtimeServer.allowAll })
  )
)
// #endregion
