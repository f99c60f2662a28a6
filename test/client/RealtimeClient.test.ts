import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Stream } from "effect"
import { TestClock } from "effect/testing"
import { RealtimeClient, type RealtimeClientOptions } from "effect-realtime/client"
import { Channel } from "effect-realtime"
import * as Schema from "effect/Schema"
import * as FakeSocket from "./support/FakeSocket.ts"

const Orders = Channel.make("orders", Schema.Struct({ n: Schema.Finite }), { publish: true })

const client = (server: FakeSocket.FakeServer, options?: Partial<RealtimeClientOptions>) =>
  Effect.map(
    Layer.build(
      RealtimeClient.layer({ url: "ws://host/realtime", webSocket: server.webSocket, ...options })
    ),
    (context) => RealtimeClient.use(Effect.succeed).pipe(Effect.provide(context))
  ).pipe(Effect.flatten)

describe("RealtimeClient", () => {
  it.effect("connects, subscribes and delivers", () =>
    Effect.gen(function* () {
      const server = FakeSocket.make({ auto: true })
      const { subscribe, publish } = yield* client(server)
      const fiber = yield* subscribe(Orders).pipe(
        Stream.take(2),
        Stream.runCollect,
        Effect.forkChild
      )
      yield* TestClock.adjust(1)
      server.last.say(FakeSocket.events("orders", 1, { n: 1 }, { n: 2 }))
      assert.deepStrictEqual(yield* Fiber.join(fiber), [{ n: 1 }, { n: 2 }])
      yield* publish(Orders, { n: 3 })
      assert.deepStrictEqual(
        server.last.sent.map((f) => f.type),
        ["hello", "subscribe", "publish"]
      )
      yield* TestClock.adjust(1001)
      assert.strictEqual(server.last.closedWith, 1000)
    })
  )
})
