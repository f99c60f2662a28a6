/** Volatile channels over real sockets: a server without a database, real clients, and one that stops reading. */
import { NodeHttpServer } from "@effect/platform-node"
import { describe, expect, it } from "@effect/vitest"
import { Context, Effect, Fiber, Layer, Schema, Stream } from "effect"
import { Channel } from "effect-realtime"
import { RealtimeClient } from "effect-realtime/client"
import { Realtime, RealtimeServer } from "effect-realtime/server"
import { HttpRouter } from "effect/http"
import { createServer } from "node:http"
import { Address, address } from "../support/app.ts"
import { greet, type Wire } from "../support/wire.ts"

const Pointer = Schema.Struct({
  user: Schema.String,
  x: Schema.Int,
  note: Schema.optionalKey(Schema.String)
})
const Pointers = Channel.family("pointers_", Schema.String, Pointer, {
  delivery: "volatile",
  publish: true,
  latestBy: "user"
})
const Board = Pointers("board")

/** Needs neither a notification source nor an outbox. */
const app = Layer.merge(
  HttpRouter.serve(
    RealtimeServer.layer({ channels: [Pointers], authorize: RealtimeServer.allowAll }),
    { disableListenLog: true, disableLogger: true }
  ),
  address
).pipe(
  Layer.provideMerge(NodeHttpServer.layer(createServer, { port: 0, host: "127.0.0.1" })),
  Layer.provideMerge(Realtime.layerVolatile())
)

const client = Effect.gen(function* () {
  const { ws } = yield* Address
  return Context.get(
    yield* Layer.build(RealtimeClient.layer({ url: ws })),
    RealtimeClient.RealtimeClient
  )
})

/** What a client receives until the payload with `x: last` of Ann. */
const hear = (client: RealtimeClient.RealtimeClient["Service"], last: number) =>
  Effect.gen(function* () {
    const active = yield* Effect.forkChild(
      Effect.callback<void>((resume) => {
        const stop = client.sync.listen(Board, {
          onEvents: () => {},
          onCursor: () => resume(Effect.void),
          onEnd: () => {}
        })
        return Effect.sync(stop)
      }),
      { startImmediately: true }
    )
    const heard = yield* client.subscribe(Board).pipe(
      Stream.takeUntil(({ user, x }) => user === "ann" && x === last),
      Stream.runCollect,
      Effect.forkChild({ startImmediately: true })
    )
    yield* Fiber.join(active)
    return heard
  })

const subscribed = Effect.gen(function* () {
  const wire = yield* greet((yield* Address).ws)
  wire.send({ type: "subscribe", id: 1, channel: "pointers_board" })
  yield* wire.next("subscribed")
  return wire
})

const events = (wire: Wire) =>
  wire.frames.flatMap((frame) =>
    frame.type === "events" ? frame.events.map(({ data }) => data as typeof Pointer.Type) : []
  )

/** The last numbers of Bob and Ann. */
const newest = (wire: Wire) =>
  ["bob", "ann"].map((user) => events(wire).findLast((event) => event.user === user)?.x)

describe("volatile channels over real sockets", () => {
  it.live(
    "what one page publishes reaches the other, as fast as the server allows, the last one included",
    () =>
      Effect.gen(function* () {
        const ann = yield* client
        const bob = yield* client
        const toBob = yield* hear(bob, 400)
        const toAnn = yield* hear(ann, 400)
        const outcomes = yield* Effect.forEach(
          Array.from({ length: 400 }, (_, index) => index + 1),
          (x) =>
            Effect.andThen(
              Effect.sleep(1),
              Effect.forkChild(ann.publish(Board, { user: "ann", x }))
            )
        )
        const told = yield* Fiber.joinAll(outcomes)
        const heard = (yield* Fiber.join(toBob)).map(({ x }) => x)
        expect(heard).toEqual(heard.toSorted((one, other) => one - other))
        expect(heard).toEqual((yield* Fiber.join(toAnn)).map(({ x }) => x))
        expect(heard).toHaveLength(told.filter((one) => one === "published").length)
        expect(told.at(-1)).toBe("published")
        expect(told).toContain("dropped")
      }).pipe(Effect.provide(app))
  )

  it.live(
    "a socket that does not read delays no other, and receives the newest of each key when it reads",
    () =>
      Effect.gen(function* () {
        const reader = yield* subscribed
        const stalled = yield* subscribed
        stalled.socket.pause()
        const note = "x".repeat(16_384)
        const last = 1200
        for (let x = 1; x <= last; x++) {
          yield* Realtime.publish(Board, { user: x % 2 === 0 ? "bob" : "ann", x, note })
          yield* Effect.yieldNow
        }
        const done = (wire: Wire) =>
          Effect.repeat(Effect.sleep(5), { until: () => events(wire).at(-1)?.x === last })
        yield* done(reader)
        expect(newest(reader)).toEqual([last, last - 1])
        expect(events(stalled).at(-1)?.x ?? 0).toBeLessThan(last - 1)
        stalled.socket.resume()
        yield* done(stalled)
        expect(events(stalled).length).toBeLessThan(last)
        expect(newest(stalled)).toEqual([last, last - 1])
        expect(stalled.frames.some(({ type }) => type === "gap" || type === "ended")).toBe(false)
        yield* Realtime.publish(Board, { user: "ann", x: last + 1 })
        yield* Effect.repeat(Effect.sleep(5), {
          until: () => events(stalled).at(-1)?.x === last + 1
        })
      }).pipe(Effect.scoped, Effect.provide(app))
  )
})
