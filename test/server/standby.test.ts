/**
 * A node whose pool leads to a standby: it logs that, waits, and is ready once the standby is
 * promoted.
 */
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Layer, Logger, Queue, Redacted, Schema, SubscriptionRef } from "effect"
import type * as Net from "node:net"
import * as Path from "node:path"
import * as Channel from "../../src/Channel.ts"
import { RealtimeServer } from "../../src/node/RealtimeServer.ts"
import { NotificationSource } from "../../src/server/NotificationSource.ts"
import { waitUntilUp } from "../../src/server/internal/waitUntilUp.ts"
import { NotPrimary } from "../../src/server/ServerError.ts"
import { OutboxReader } from "../../src/server/OutboxReader.ts"
import * as Reader from "../../src/server/OutboxReader.ts"
import * as PgNotificationSource from "../../src/server/PgNotificationSource.ts"
import { execute } from "../support/database.ts"
import { listenTo } from "../support/listenTo.ts"
import { until } from "../support/until.ts"
import { greet } from "../support/wire.ts"
import { copyFolder, folder, followIn, installedOn, serverOn } from "./support/recovery.ts"
import { httpServer } from "../support/httpServer.ts"

const Live = Channel.make("orders", Schema.Unknown)
const Durable = Channel.make("orders", Schema.Unknown, { delivery: "durable" })

/** A hot standby of a primary with everything installed. */
const standby = Effect.gen(function* () {
  const place = yield* folder
  const primary = yield* installedOn(Path.join(place, "primary"))
  const data = Path.join(place, "standby")
  yield* primary.stop("fast")
  yield* copyFolder(primary.dataDirectory, data)
  yield* primary.start
  yield* followIn(data, primary)
  const { url } = yield* serverOn(data)
  return { url, promote: execute(url, "select pg_promote(true)") }
})

describe("A standby of PostgreSQL", () => {
  const options = { backoff: { initial: 10, cap: 50, resetAfter: 30_000 }, startPatience: 200 }

  /** Builds a layer on a standby, and collects what is logged as a warning or worse. */
  const on = <A, E>(url: string, layer: Layer.Layer<A, E, PgClient.PgClient>) =>
    Effect.gen(function* () {
      const lines: Array<string> = []
      const logger = Logger.make(({ logLevel, message }) => {
        if (/^(Warn|Error)/.test(logLevel)) lines.push(String(message))
      })
      const pool = PgClient.layer({ url: Redacted.make(url) })
      const context = yield* Layer.build(layer.pipe(Layer.provide([pool, Logger.layer([logger])])))
      return { context, lines }
    })

  it.live(
    "the reader of a standby warns once, and delivers after the promotion of the standby",
    () =>
      Effect.gen(function* () {
        const { promote, url } = yield* standby
        const { context, lines } = yield* on(url, Reader.layer(options))
        const reader = yield* Effect.provideContext(OutboxReader, context)
        const refused = yield* Effect.flip(reader.refused!)
        expect(refused).toBeInstanceOf(NotPrimary)
        expect(yield* SubscriptionRef.get(reader.state)).toBe("down")
        expect(lines).toEqual([expect.stringContaining(refused.message)])
        yield* promote
        yield* waitUntilUp(reader.state)
        const queue = yield* reader.follow("orders")
        yield* execute(url, `select realtime.publish('orders', '{"n":1}'::text)`)
        expect(yield* Queue.take(queue)).toMatchObject({ events: [{ text: '{"n":1}' }] })
        expect(lines).toHaveLength(1)
      }).pipe(Effect.scoped),
    60_000
  )

  it.live(
    "the link to a standby warns once, and delivers after the promotion of the standby",
    () =>
      Effect.gen(function* () {
        const { promote, url } = yield* standby
        const { context, lines } = yield* on(url, PgNotificationSource.layer(options))
        const source = yield* Effect.provideContext(NotificationSource, context)
        const refused = yield* Effect.flip(source.refused!)
        expect(refused).toBeInstanceOf(NotPrimary)
        expect(yield* SubscriptionRef.get(source.state)).toBe("down")
        expect(lines).toEqual([expect.stringContaining(refused.message)])
        yield* promote
        const queue = yield* listenTo(source, "orders")
        yield* execute(url, "select pg_notify('orders', 'now')")
        expect(yield* Queue.take(queue)).toBe("now")
        expect(lines).toHaveLength(1)
      }).pipe(Effect.scoped),
    60_000
  )

  it.live.each([
    ["that only reads", Durable, { wake: "poll" }],
    ["that reads and listens", Durable, {}],
    ["that only listens", Live, {}]
  ] as const)(
    "a server on a standby %s rejects ready, and is ready after the promotion",
    ([, channel, options]) =>
      Effect.gen(function* () {
        const { promote, url } = yield* standby
        const http = yield* httpServer
        const server = yield* Effect.acquireRelease(
          Effect.sync(
            () =>
              new RealtimeServer(http, url, {
                authorize: () => true,
                channels: [channel],
                startPatience: 300,
                ...options
              })
          ),
          (server) => Effect.promise(() => server.close())
        )
        const { cause } = yield* Effect.flip(Effect.tryPromise(() => server.ready))
        expect(cause).toBeInstanceOf(NotPrimary)
        expect(server.isReady()).toBe(false)
        const wire = yield* greet(
          `ws://127.0.0.1:${(http.address() as Net.AddressInfo).port}/realtime`
        )
        wire.send({ type: "subscribe", id: 1, channel: "orders" })
        expect(yield* wire.next("error")).toMatchObject({ code: "source/down", retry: "later" })
        yield* promote
        yield* until(() => server.isReady())
        wire.send({ type: "subscribe", id: 2, channel: "orders" })
        yield* wire.next("subscribed")
        yield* Effect.promise(() => server.publish(channel, { n: 1 }))
        expect((yield* wire.next("events")).events[0]!.data).toEqual({ n: 1 })
      }).pipe(Effect.scoped),
    60_000
  )
})
