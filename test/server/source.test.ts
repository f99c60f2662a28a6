/** The state of the source for clients and health checks: the link and the reader. */
import { NodeHttpServer } from "@effect/platform-node"
import { describe, expect, it } from "@effect/vitest"
import { Context, Effect, Layer, Schema, Stream } from "effect"
import * as HttpRouter from "effect/http/HttpRouter"
import { createServer } from "node:http"
import * as Channel from "../../src/Channel.ts"
import * as MemoryOutbox from "../../src/server/MemoryOutbox.ts"
import * as MemorySource from "../../src/server/MemorySource.ts"
import * as Realtime from "../../src/server/Realtime.ts"
import * as RealtimeServer from "../../src/server/RealtimeServer.ts"
import { type SourceState } from "../../src/server/NotificationSource.ts"
import * as PgNotificationSource from "../../src/server/PgNotificationSource.ts"
import { allowAll } from "../../src/server/ServerOptions.ts"
import { Address, address } from "../support/app.ts"
import { execute, TestDatabase } from "../support/database.ts"
import { greet } from "../support/wire.ts"
import { layerInstalled, layerReaderOnly } from "./support/durable.ts"

const Live = Channel.make("live", Schema.Unknown)
const Kept = Channel.make("kept", Schema.Unknown, { delivery: "durable" })

/** A server with some channels, over a node that has a link and a reader. */
const door = (channels: ReadonlyArray<Channel.Definition>) =>
  Layer.build(
    Layer.fresh(
      HttpRouter.serve(RealtimeServer.layer({ channels, authorize: allowAll }), {
        disableListenLog: true,
        disableLogger: true
      }).pipe(
        Layer.provideMerge(address),
        Layer.provideMerge(
          NodeHttpServer.layer(() => createServer(), { port: 0, host: "127.0.0.1" })
        )
      )
    )
  ).pipe(
    Effect.flatMap((context) =>
      Effect.gen(function* () {
        const server = Context.get(context, RealtimeServer.RealtimeServer)
        const wire = yield* greet(Context.get(context, Address).ws)
        const told = () =>
          wire.frames.flatMap((frame) => (frame.type === "status" ? [frame.source] : []))
        return { server, wire, told }
      })
    )
  )

describe("The source of a server", () => {
  it.live("a server is ready while every source that its channels need is up", () =>
    Effect.gen(function* () {
      const memory = yield* MemorySource.MemorySource
      const outbox = yield* MemoryOutbox.MemoryOutbox
      const live = yield* door([Live])
      const kept = yield* door([Kept])
      const both = yield* door([Live, Kept])
      const doors = [live, kept, both]
      const heard: Array<SourceState> = []
      yield* Realtime.Realtime.useSync((realtime) => realtime.source).pipe(
        Stream.unwrap,
        Stream.runForEach((one) => Effect.sync(() => heard.push(one))),
        Effect.forkScoped({ startImmediately: true })
      )
      const hear = (count: number) =>
        Effect.repeat(Effect.yieldNow, { until: () => heard.length === count })
      yield* hear(1)
      const ready = Effect.forEach(doors, ({ server }) => server.isReady)
      expect(yield* ready).toEqual([true, true, true])

      yield* outbox.lose
      expect((yield* kept.wire.next("status")).source).toBe("down")
      expect((yield* both.wire.next("status")).source).toBe("down")
      expect(yield* ready).toEqual([true, false, false])
      // Lost and restored, while the other source is still down.
      yield* memory.lose
      expect((yield* live.wire.next("status")).source).toBe("down")
      expect(yield* ready).toEqual([false, false, false])
      yield* outbox.restore
      expect((yield* kept.wire.next("status")).source).toBe("up")
      expect(yield* ready).toEqual([false, true, false])
      yield* memory.restore
      expect((yield* live.wire.next("status")).source).toBe("up")
      expect((yield* both.wire.next("status")).source).toBe("up")
      expect(yield* ready).toEqual([true, true, true])

      expect(doors.map(({ told }) => told())).toEqual([
        ["down", "up"],
        ["down", "up"],
        ["down", "up"]
      ])
      yield* hear(3)
      expect(heard).toEqual(["up", "down", "up"])
    }).pipe(
      Effect.scoped,
      Effect.provide(
        Realtime.layer().pipe(
          Layer.provideMerge(MemoryOutbox.layer()),
          Layer.provideMerge(MemorySource.layer)
        )
      )
    )
  )

  it.live.each([
    ["the reader of the outbox", "effect-realtime reader", [[], ["down", "up"], ["down", "up"]]],
    ["the link", "effect-realtime link", [["down", "up"], [], ["down", "up"]]]
  ] as const)("clients get status down and up for %s if they need it", ([, name, expected]) =>
    Effect.gen(function* () {
      const { url } = yield* TestDatabase
      const { source } = yield* Realtime.Realtime
      yield* source.pipe(
        Stream.filter((state) => state === "up"),
        Stream.runHead
      )
      const doors = yield* Effect.forEach([[Live], [Kept], [Live, Kept]], door)
      // A session that listens to nothing notices its end only at the next heartbeat.
      doors[0]!.wire.send({ type: "subscribe", id: 1, channel: "live" })
      yield* doors[0]!.wire.next("subscribed")
      yield* execute(
        url,
        `select pg_terminate_backend(pid) from pg_stat_activity
         where datname = current_database() and application_name = '${name}'`
      )
      for (const [index, { wire }] of doors.entries()) {
        for (const state of expected[index]!) {
          expect((yield* wire.next("status")).source).toBe(state)
        }
      }
      expect(doors.map(({ told }) => told())).toEqual(expected)
    }).pipe(
      Effect.scoped,
      Effect.provide(
        Realtime.layer().pipe(
          Layer.provideMerge(
            Layer.merge(
              layerReaderOnly(),
              PgNotificationSource.layer({
                backoff: { initial: 10, cap: 100, resetAfter: 30_000 }
              })
            )
          ),
          Layer.provideMerge(layerInstalled())
        )
      )
    )
  )
})
