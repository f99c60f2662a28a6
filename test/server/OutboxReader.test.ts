import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Fiber, Queue, Stream } from "effect"
import { OutboxReader } from "../../src/server/OutboxReader.ts"
import { layerReader, payloads, publish } from "./support/durable.ts"

describe("OutboxReader", () => {
  it.live("hands out what is committed, and never what is rolled back", () =>
    Effect.gen(function* () {
      const reader = yield* OutboxReader
      const sql = yield* PgClient.PgClient
      const queue = yield* reader.follow("room")
      yield* sql
        .withTransaction(Effect.andThen(publish("room", "rolled back"), Effect.fail("no")))
        .pipe(Effect.ignore)
      yield* publish("elsewhere", "not followed")
      yield* publish("room", { n: 1 })
      const item = yield* Queue.take(queue)
      expect(item).toMatchObject({ _tag: "Batch", channel: "room", events: [{ text: '{"n":1}' }] })
    }).pipe(Effect.scoped, Effect.provide(layerReader()))
  )

  it.live("resumes a cursor without a hole or a double", () =>
    Effect.gen(function* () {
      const reader = yield* OutboxReader
      const start = yield* reader.position
      for (let n = 0; n < 10; n++) yield* publish("room", n)
      const first = yield* reader.batches("room", { from: start }).pipe(
        Stream.filter((item) => item._tag === "Batch"),
        Stream.take(1),
        Stream.runCollect
      )
      const got = first[0]!.events.map(({ text }) => Number(text))
      const rest = yield* Effect.forkChild(
        payloads(reader.batches("room", { from: first[0]!.cursor }), 15 - got.length),
        { startImmediately: true }
      )
      for (let n = 10; n < 15; n++) yield* publish("room", n)
      expect([...got, ...(yield* Fiber.join(rest))]).toEqual(
        Array.from({ length: 15 }, (_, n) => n)
      )
    }).pipe(Effect.scoped, Effect.provide(layerReader()))
  )

  it.live("joins a socket with the whole replay, and the live batches follow it", () =>
    Effect.gen(function* () {
      const reader = yield* OutboxReader
      const start = yield* reader.position
      for (let n = 0; n < 3; n++) yield* publish("room", n)
      const queue = yield* reader.follow("room")
      const join = yield* reader.join("room", start, { events: 100, bytes: 1e6 })
      expect(join).toMatchObject({ state: "recovered", cursor: start })
      for (let n = 3; n < 6; n++) yield* publish("room", n)
      const texts = join.replay.flatMap(({ events }) => events.map(({ text }) => text))
      while (texts.length < 6) {
        const item = yield* Queue.take(queue)
        if (item._tag === "Batch" && item.tick > join.tick) {
          texts.push(...item.events.map(({ text }) => text))
        }
      }
      expect(texts).toEqual(["0", "1", "2", "3", "4", "5"])
    }).pipe(Effect.scoped, Effect.provide(layerReader()))
  )
})
