/**
 * Positions for quiet channels: the cursor of a client that receives no event must not outlive the
 * retention.
 */
import { NodeHttpServer } from "@effect/platform-node"
import { describe, expect, it } from "@effect/vitest"
import { Clock, Effect, Fiber, Layer, Queue, Ref, Stream } from "effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as Schema from "effect/Schema"
import { createServer } from "node:http"
import * as Channel from "../../src/Channel.ts"
import * as MemorySource from "../../src/server/MemorySource.ts"
import * as Realtime from "../../src/server/Realtime.ts"
import * as RealtimeServer from "../../src/server/RealtimeServer.ts"
import { OutboxReader } from "../../src/server/OutboxReader.ts"
import { allowAll } from "../../src/server/ServerOptions.ts"
import { Address, address } from "../support/app.ts"
import { greet } from "../support/wire.ts"
import { sleepy } from "../client/support/clock.ts"
import { layerReader, publish } from "./support/durable.ts"

const Log = Channel.make("log", Schema.Unknown, { delivery: "durable" })

const minute = 60_000

const realtime = Realtime.layer().pipe(
  Layer.provide(MemorySource.layer),
  Layer.provideMerge(layerReader({ retention: "2 seconds" }))
)

const door = Layer.merge(
  HttpRouter.serve(RealtimeServer.layer({ channels: [Log], authorize: allowAll }), {
    disableListenLog: true,
    disableLogger: true
  }),
  address
).pipe(
  Layer.provideMerge(NodeHttpServer.layer(() => createServer(), { port: 0, host: "127.0.0.1" })),
  Layer.provideMerge(realtime)
)

/** Publishes elsewhere until the messages after a cursor are no longer kept. */
const gone = (cursor: string) =>
  Effect.gen(function* () {
    const reader = yield* OutboxReader
    yield* Effect.repeat(
      Effect.andThen(publish("elsewhere", 1), Effect.delay(reader.join("log", cursor), 20)),
      { until: ({ reason }) => reason === "retention" }
    )
  })

describe("The position of a quiet channel", () => {
  it.live.each([
    ["every hour", undefined, "24 hours", 60 * minute],
    ["as often as positionInterval says", "1 minute", "24 hours", minute],
    ["four times within the retention", undefined, "40 minutes", 10 * minute]
  ] as const)("followers receive a new position %s", ([, positionInterval, retention, every]) =>
    Effect.gen(function* () {
      const { clock, jump } = yield* sleepy
      yield* Effect.gen(function* () {
        const reader = yield* OutboxReader
        const queue = yield* reader.follow("log")
        for (let n = 0; n < 3; n++) {
          // Less than half a minute passes meanwhile.
          jump(every - minute / 2)
          yield* reader.position
          expect(yield* Queue.clear(queue)).toEqual([])
          jump(minute / 2)
          yield* reader.position
          expect(yield* Queue.clear(queue)).toMatchObject([{ _tag: "Position" }])
        }
      }).pipe(
        Effect.scoped,
        Effect.provide(layerReader({ retention }, { positionInterval, upkeep: false })),
        Effect.provideService(Clock.Clock, clock)
      )
    })
  )

  it.live("a quiet client receives a new cursor, and resumes when its first one is expired", () =>
    Effect.gen(function* () {
      const { ws } = yield* Address
      const wire = yield* greet(ws)
      wire.send({ type: "subscribe", id: 1, channel: "log" })
      yield* gone((yield* wire.next("subscribed")).cursor!)
      const told = wire.frames.findLast((frame) => frame.type === "cursor")
      const again = yield* greet(ws)
      again.send({ type: "subscribe", id: 1, channel: "log", cursor: told?.cursor })
      expect(yield* again.next("subscribed")).toMatchObject({ state: "recovered" })
    }).pipe(Effect.scoped, Effect.provide(door))
  )

  it.live("a Stream of batches starts with a position, and gets new ones without events", () =>
    Effect.gen(function* () {
      const cursors = yield* Queue.unbounded<string>()
      const newest = yield* Ref.make("")
      const consumer = yield* Realtime.batches(Log).pipe(
        Stream.runForEach(({ cursor, events }) => {
          expect(events).toEqual([])
          return Effect.andThen(Queue.offer(cursors, cursor), Ref.set(newest, cursor))
        }),
        Effect.forkChild
      )
      yield* gone(yield* Queue.take(cursors))
      yield* Fiber.interrupt(consumer)
      const from = yield* Ref.get(newest)
      yield* publish("log", "next")
      const next = yield* Realtime.batches(Log, { from }).pipe(
        Stream.filter(({ events }) => events.length > 0),
        Stream.runHead
      )
      expect(next).toMatchObject({ value: { events: [{ _tag: "Event", payload: "next" }] } })
    }).pipe(Effect.scoped, Effect.provide(realtime))
  )
})
