/**
 * A gap has its place: every reader of a channel receives it between the events before and after
 * it, its cursor is behind it, and it is counted and logged once.
 */
import { NodeHttpServer } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Logger, Metric, Queue, Schema, Stream } from "effect"
import * as HttpRouter from "effect/http/HttpRouter"
import { createServer } from "node:http"
import * as Channel from "../../src/Channel.ts"
import type { RealtimeEvent } from "../../src/RealtimeEvent.ts"
import { gapTexts } from "../../src/server/internal/gapText.ts"
import * as metrics from "../../src/server/internal/metrics.ts"
import { NotificationSource } from "../../src/server/NotificationSource.ts"
import * as MemorySource from "../../src/server/MemorySource.ts"
import * as Realtime from "../../src/server/Realtime.ts"
import * as RealtimeServer from "../../src/server/RealtimeServer.ts"
import { allowAll } from "../../src/server/ServerOptions.ts"
import { Address, address } from "../support/app.ts"
import { greet, type Wire } from "../support/wire.ts"
import { layerReader } from "./support/durable.ts"
import { random, seed } from "./support/random.ts"

const Order = Schema.Struct({ id: Schema.Int })
const Orders = Channel.tableUpdates("orders", Order, { delivery: "durable" })
const Numbers = Channel.make("numbers", Schema.Int)

const durable = Realtime.layer().pipe(
  Layer.provideMerge(layerReader()),
  Layer.provideMerge(MemorySource.layer)
)

const door = Layer.merge(
  HttpRouter.serve(RealtimeServer.layer({ channels: [Orders, Numbers], authorize: allowAll }), {
    disableListenLog: true,
    disableLogger: true
  }),
  address
).pipe(
  Layer.provideMerge(NodeHttpServer.layer(() => createServer(), { port: 0, host: "127.0.0.1" })),
  Layer.provideMerge(durable)
)

const good = (id: number) => `{"operation":"INSERT","data":{"id":${id}},"key":{"id":${id}}}`
const secret = "a secret value"
const bad = `{"operation":"INSERT","data":{"id":"${secret}"},"key":{}}`

/** Writes texts to the outbox in one transaction. */
const write = (...texts: ReadonlyArray<string>) =>
  PgClient.PgClient.use((sql) =>
    sql.withTransaction(
      Effect.forEach(
        texts,
        (text) =>
          sql`insert into realtime.messages (channel, payload) values (${Orders.name}, ${text})`,
        { discard: true }
      )
    )
  )

const start = Effect.map(Realtime.snapshot(Effect.void), ({ cursor }) => cursor)

const brief = (event: RealtimeEvent<unknown>) =>
  event._tag === "Gap"
    ? `gap ${event.reason}`
    : (event.payload as { readonly data: { readonly id: number } }).data.id

const follow = (from: string, count: number) =>
  Realtime.events(Orders, { from }).pipe(Stream.take(count), Stream.runCollect)

/**
 * All warnings logged while `body` runs, by the server too, and by how much the metric rose.
 */
const noticed = <A, E, R, ROut, E2, RIn>(
  layer: Layer.Layer<ROut, E2, RIn>,
  body: Effect.Effect<A, E, R>
) =>
  Effect.gen(function* () {
    const lines: Array<string> = []
    const count = Effect.map(Metric.value(metrics.notificationsInvalid), (state) =>
      Number(state.count)
    )
    const before = yield* count
    const value = yield* body.pipe(
      Effect.provide(layer),
      Effect.provide(
        Logger.layer([
          Logger.make(({ logLevel, message }) => {
            if (logLevel === "Warn") lines.push(String(message))
          })
        ])
      )
    )
    return { value, lines, counted: (yield* count) - before }
  })

const aboutOrders = (lines: ReadonlyArray<string>) =>
  lines.filter((line) => line.includes(Orders.name) && !line.startsWith("No table is watched"))

/** Frames of a socket until it has `count` events and gaps of the orders. */
const framesOf = (wire: Wire, count: number) =>
  Effect.gen(function* () {
    const told: Array<{ readonly what: unknown; readonly cursor: string }> = []
    while (told.length < count) {
      const frame = yield* wire.next("events", "gap")
      if (frame.type === "gap") told.push({ what: `gap ${frame.reason}`, cursor: frame.cursor })
      else {
        for (const { data } of frame.events) {
          told.push({
            what: (data as { readonly data: { readonly id: number } }).data.id,
            cursor: frame.cursor!
          })
        }
      }
    }
    return told
  })

const mixed = ["gap invalid", 1, "gap invalid", 2, "gap invalid"]

describe("A durable message that does not match its schema", () => {
  it.live("an invalid message is a gap in its place, and a resume from there skips it", () =>
    Effect.gen(function* () {
      const from = yield* start
      yield* write(bad, good(1), bad, good(2), bad)
      yield* write(good(3))
      const events = yield* follow(from, 6)
      expect(events.map(brief)).toEqual([...mixed, 3])
      for (const [index, event] of events.entries()) {
        if (event.cursor === undefined) continue
        const rest = events.slice(index + 1)
        if (rest.length === 0) continue
        expect((yield* follow(event.cursor, rest.length)).map(brief)).toEqual(rest.map(brief))
      }
      // Every gap and every event next to a gap is a position.
      expect(events.every(({ cursor }) => cursor !== undefined)).toBe(true)
    }).pipe(Effect.provide(durable))
  )

  it.live("the gap of an invalid message has its id, path and expected type, not its value", () =>
    Effect.gen(function* () {
      const from = yield* start
      yield* write(good(1), bad, `{"operation":"INSERT","data":{"id":1311768467463790321}}`, "{")
      const [, ...gaps] = yield* follow(from, 4)
      const invalid = gaps.map((gap) => (gap._tag === "Gap" ? gap.invalid : undefined))
      const ids = invalid.map((one) => Number(one?.id))
      expect(invalid).toEqual([
        { id: String(ids[0]), path: `["data"]["id"]`, expected: "number" },
        { id: String(ids[1]), path: `["data"]["id"]`, expected: "number" },
        { id: String(ids[2]), path: "", expected: "JSON" }
      ])
      expect(ids).toEqual([ids[0], ids[0]! + 1, ids[0]! + 2])
    }).pipe(Effect.provide(durable))
  )

  it.live("Streams, batches, consumers, sockets and replays share one count of a gap", () =>
    Effect.gen(function* () {
      const { counted, lines, value } = yield* noticed(
        door,
        Effect.gen(function* () {
          const { ws: url } = yield* Address
          const from = yield* start
          const wire = yield* greet(url)
          wire.send({ type: "subscribe", id: 1, channel: Orders.name })
          yield* wire.next("subscribed")
          const consumed = yield* Queue.unbounded<RealtimeEvent<unknown>>()
          const consumer = yield* Realtime.consume(Orders, {
            name: "gaps",
            start: { cursor: from },
            onEvents: (events) => Queue.offerAll(consumed, events)
          }).pipe(Effect.forkChild)
          yield* write(bad, good(1), bad, good(2), bad)
          const live = yield* framesOf(wire, 5)
          const streamed = yield* follow(from, 5)
          const batches = yield* Realtime.batches(Orders, { from }).pipe(
            Stream.flatMap(({ events }) => Stream.fromIterable(events)),
            Stream.take(5),
            Stream.runCollect
          )
          const worked = yield* Queue.takeN(consumed, 5)
          yield* Fiber.interrupt(consumer)
          // Two clients resume, the second one in the middle.
          const again = yield* greet(url)
          again.send({ type: "subscribe", id: 1, channel: Orders.name, cursor: from })
          const replayed = yield* framesOf(again, 5)
          const late = yield* greet(url)
          late.send({ type: "subscribe", id: 1, channel: Orders.name, cursor: live[2]!.cursor })
          return {
            live: live.map(({ what }) => what),
            replayed: replayed.map(({ what }) => what),
            late: (yield* framesOf(late, 2)).map(({ what }) => what),
            streamed: streamed.map(brief),
            batches: batches.map(brief),
            worked: worked.map(brief)
          }
        })
      )
      expect(value).toEqual({
        live: mixed,
        replayed: mixed,
        late: [2, "gap invalid"],
        streamed: mixed,
        batches: mixed,
        worked: mixed
      })
      expect(counted).toBe(3)
      const told = aboutOrders(lines)
      expect(told).toHaveLength(3)
      expect(told[0]).toMatch(
        /^Event \d+ of channel "table_updates_orders" does not match its schema and becomes a gap: expected number at \["data"\]\["id"\]\.$/
      )
      expect(lines.join()).not.toContain(secret)
    })
  )

  it.live("the log names the PgType that fits, and logs under 40 lines for 300 gaps", () =>
    Effect.gen(function* () {
      const many = Array.from(
        { length: 300 },
        () => `{"operation":"INSERT","data":{"id":12345678901234567890}}`
      )
      const { counted, lines } = yield* noticed(
        durable,
        Effect.gen(function* () {
          const from = yield* start
          yield* write(good(1), ...many, good(2))
          const events = yield* follow(from, 302)
          expect(events.map(brief)).toEqual([1, ...many.map(() => "gap invalid"), 2])
          const middle = events[150]!.cursor!
          expect((yield* follow(middle, 151)).map(brief)).toEqual(events.slice(151).map(brief))
        })
      )
      expect(counted).toBe(300)
      const told = aboutOrders(lines)
      expect(told[0]).toContain("read the column with PgType.")
      expect(told.length).toBeLessThan(40)
    })
  )

  it.live("a Stream may resume exactly from every cursor among random gaps", () =>
    Effect.gen(function* () {
      const r = random(seed)
      const from = yield* start
      const texts: Array<string> = []
      for (let commit = 0; commit < 8; commit++) {
        const one = Array.from({ length: 1 + r.int(6) }, () =>
          r.int(3) === 0
            ? r.pick([bad, gapTexts.truncate, gapTexts.source, gapTexts.invalid])
            : good(texts.length + r.int(1000))
        )
        texts.push(...one)
        yield* write(...one)
        yield* PgClient.PgClient.use((sql) => sql`select realtime.publish('another', '1')`)
      }
      const events = yield* follow(from, texts.length)
      for (const [index, event] of events.entries()) {
        if (event.cursor === undefined || index === events.length - 1) continue
        const rest = events.slice(index + 1)
        expect((yield* follow(event.cursor, rest.length)).map(brief)).toEqual(rest.map(brief))
      }
    }).pipe(Effect.provide(durable))
  )

  it.live("a payload with a prototype key is a gap for every subscriber", () =>
    Effect.gen(function* () {
      const { ws: url } = yield* Address
      const sql = yield* PgClient.PgClient
      const from = yield* start
      const payload = `{"operation":"INSERT","data":{"id":1},"key":{"__proto__":{"a":1}}}`
      const wire = yield* greet(url)
      wire.send({ type: "subscribe", id: 1, channel: Orders.name })
      yield* wire.next("subscribed")
      yield* write(payload)
      expect((yield* wire.next("gap")).reason).toBe("invalid")
      const [gap] = yield* follow(from, 1)
      expect(gap).toMatchObject({ invalid: { path: `["key"][*]` } })
      // A live payload in SQL may be any text.
      const source = yield* NotificationSource
      wire.send({ type: "subscribe", id: 2, channel: Numbers.name })
      yield* wire.next("subscribed")
      yield* source.notify(Numbers.name, `{"constructor":1}`)
      expect((yield* wire.next("gap")).channel).toBe(Numbers.name)
      expect(yield* sql`select 1 one`).toEqual([{ one: 1 }])
    }).pipe(Effect.provide(door))
  )
})

describe("Gaps that the database writes", () => {
  it.live("a gap of TRUNCATE is delivered in its place, and logs no warning", () =>
    Effect.gen(function* () {
      const { counted, lines } = yield* noticed(
        door,
        Effect.gen(function* () {
          const { ws: url } = yield* Address
          const from = yield* start
          const wire = yield* greet(url)
          wire.send({ type: "subscribe", id: 1, channel: Orders.name })
          yield* wire.next("subscribed")
          yield* write(good(1), gapTexts.truncate, good(2), gapTexts.truncate)
          expect((yield* framesOf(wire, 4)).map(({ what }) => what)).toEqual([
            1,
            "gap truncate",
            2,
            "gap truncate"
          ])
          // A client that was away drops row 1 before row 2 arrives.
          const events = yield* follow(from, 4)
          expect(events.map(brief)).toEqual([1, "gap truncate", 2, "gap truncate"])
          expect((yield* follow(events[1]!.cursor!, 2)).map(brief)).toEqual([2, "gap truncate"])
        })
      )
      expect([counted, aboutOrders(lines)]).toEqual([0, []])
    })
  )

  it.live("a TRUNCATE written by the previous version is a gap with the reason invalid", () =>
    Effect.gen(function* () {
      const from = yield* start
      yield* write(good(1), `{"operation":"TRUNCATE"}`, good(2))
      expect((yield* follow(from, 3)).map(brief)).toEqual([1, "gap invalid", 2])
    }).pipe(Effect.provide(durable))
  )

  it.live("each gap has its reason, and only one that a trigger could not read warns", () =>
    Effect.gen(function* () {
      const { counted, lines, value } = yield* noticed(
        durable,
        Effect.gen(function* () {
          const from = yield* start
          yield* write(gapTexts.source, gapTexts.invalid, good(1))
          return yield* follow(from, 3)
        })
      )
      expect(value.map(brief)).toEqual(["gap source", "gap invalid", 1])
      expect(counted).toBe(1)
      expect(aboutOrders(lines)).toEqual([expect.stringContaining("could not read")])
    })
  )

  it.live("a live channel delivers and replays gaps in their place, padded or not", () =>
    Effect.gen(function* () {
      const { counted, lines } = yield* noticed(
        door,
        Effect.gen(function* () {
          const { ws: url } = yield* Address
          const source = yield* NotificationSource
          const wire = yield* greet(url)
          wire.send({ type: "subscribe", id: 1, channel: Numbers.name })
          const { cursor } = yield* wire.next("subscribed")
          const texts = ["1", `${gapTexts.truncate}  `, "2", gapTexts.source, "3"]
          for (const text of texts) yield* source.notify(Numbers.name, text)
          const expected = [1, "truncate", 2, "source", 3]
          const read = Effect.fnUntraced(function* (wire: Wire) {
            const told: Array<unknown> = []
            while (told.length < 5) {
              const frame = yield* wire.next("events", "gap")
              told.push(
                ...(frame.type === "gap" ? [frame.reason] : frame.events.map((e) => e.data))
              )
            }
            return told
          })
          expect(yield* read(wire)).toEqual(expected)
          const again = yield* greet(url)
          again.send({ type: "subscribe", id: 1, channel: Numbers.name, cursor: cursor! })
          expect((yield* again.next("subscribed")).state).toBe("recovered")
          expect(yield* read(again)).toEqual(expected)
        })
      )
      expect([counted, aboutOrders(lines)]).toEqual([0, []])
    })
  )
})
