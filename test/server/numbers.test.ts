/**
 * A number that a double does not hold keeps its digits from the table to the frame, on every path.
 */
import { NodeHttpServer } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { BigDecimal, Effect, Layer, Schema, Stream } from "effect"
import * as HttpRouter from "effect/http/HttpRouter"
import { createServer } from "node:http"
import * as Channel from "../../src/Channel.ts"
import * as PgType from "../../src/PgType.ts"
import * as PgInstaller from "../../src/server/PgInstaller.ts"
import * as PgNotificationSource from "../../src/server/PgNotificationSource.ts"
import * as Realtime from "../../src/server/Realtime.ts"
import * as RealtimeServer from "../../src/server/RealtimeServer.ts"
import { allowAll } from "../../src/server/ServerOptions.ts"
import { Address, address } from "../support/app.ts"
import { greet, type Wire } from "../support/wire.ts"
import { layerReader } from "./support/durable.ts"

const Row = Schema.Struct({ id: PgType.int8, total: PgType.numeric })
const schemas = {
  typed: Row,
  existing: Schema.Struct({ id: Schema.BigInt, total: Schema.BigDecimal }),
  texts: Schema.Struct({ id: Schema.String, total: Schema.String }),
  rounded: Schema.Struct({ id: PgType.int8, total: Schema.Finite }),
  untyped: Schema.Unknown
}
const long = { id: "1311768467463790321", total: "99999999999999.12345" }
const small = { id: 5, total: 10.5 }

const definitions = (["durable", "live"] as const).map((delivery) => ({
  delivery,
  channels: Object.entries(schemas).map(([name, schema]) =>
    Channel.tableUpdates(`${delivery}_${name}`, schema as Schema.Codec<unknown, unknown>, {
      delivery
    })
  )
}))
const Chat = Channel.make("chat", Schema.Unknown, { publish: true, delivery: "durable" })
const Average = Channel.make(
  "average",
  Schema.Struct({ avg: Schema.Number, text: Schema.String }),
  {
    publish: true,
    delivery: "durable"
  }
)
const Exact = Channel.make("exact", Schema.Struct({ n: PgType.numeric }), {
  publish: true,
  delivery: "durable"
})
const channels = [...definitions.flatMap((one) => one.channels), Chat, Average, Exact]

const door = Layer.merge(
  HttpRouter.serve(RealtimeServer.layer({ channels, authorize: allowAll }), {
    disableListenLog: true,
    disableLogger: true
  }),
  address
).pipe(
  Layer.provideMerge(NodeHttpServer.layer(() => createServer(), { port: 0, host: "127.0.0.1" })),
  Layer.provideMerge(Realtime.layer()),
  Layer.provideMerge(PgNotificationSource.layer()),
  Layer.provideMerge(layerReader())
)

const subscribe = Effect.fnUntraced(function* (wire: Wire, channel: string) {
  wire.send({ type: "subscribe", id: 1, channel })
  yield* wire.next("subscribed")
})

/** The data of the next event of a socket, as text. */
const nextText = Effect.fnUntraced(function* (wire: Wire) {
  const frame = yield* wire.next("events", "gap")
  if (frame.type === "gap") return `gap ${frame.reason}`
  const text = wire.messages.find((message) => message.includes(`"id":"${frame.events[0]!.id}"`))!
  return /"data":(.*?)(?:,"tx":"\d+")?\}\]\}/.exec(text)![1]!
})

describe("A row with long numbers", () => {
  it.live("long numbers of a row keep their digits in the frame, durable and live", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const { ws: url } = yield* Address
      for (const { channels, delivery } of definitions) {
        for (const channel of channels) {
          const table = channel.name.slice("table_updates_".length)
          yield* sql.unsafe(`create table "${table}" (id bigint primary key, total numeric)`)
          yield* PgInstaller.watch({ channel: channel.name, table, delivery })
          const wire = yield* greet(url)
          yield* subscribe(wire, channel.name)
          yield* sql.unsafe(`insert into "${table}" values (${long.id}, ${long.total})`)
          const told = JSON.parse(yield* nextText(wire)) as { data: unknown; key: unknown }
          const total = table.endsWith("rounded") ? Number(long.total) : long.total
          expect([table, told.data]).toEqual([table, { ...long, total }])
          expect([table, told.key]).toMatchObject([table, { id: long.id }])
          yield* sql.unsafe(`insert into "${table}" values (${small.id}, ${small.total})`)
          const next = yield* nextText(wire)
          // Schemas for texts alone do not decode numbers, for which there is PgType.
          const onlyTexts = table.endsWith("texts") || table.endsWith("existing")
          expect([table, onlyTexts ? next : JSON.parse(next)]).toMatchObject([
            table,
            onlyTexts ? "gap invalid" : { data: small, key: { id: small.id } }
          ])
        }
      }
    }).pipe(Effect.provide(door))
  )

  it.live("a Stream decodes long numbers by the Schema of the channel", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const Orders = Channel.tableUpdates(
        "orders",
        Schema.Struct({ id: PgType.int8, total: PgType.numericBigDecimal, parts: PgType.json }),
        { delivery: "durable" }
      )
      yield* sql`create table orders (id bigint primary key, total numeric, parts jsonb)`
      yield* PgInstaller.watch({
        channel: Orders.name,
        table: "orders",
        delivery: "durable",
        old: true
      })
      const { cursor: from } = yield* Realtime.snapshot(Effect.void)
      yield* sql`insert into orders values (9223372036854775807, 1e30, '[9007199254740993, {"a": 1e-400}]')`
      yield* sql`update orders set total = 0.1`
      const [inserted, updated] = yield* Realtime.events(Orders, { from }).pipe(
        Stream.take(2),
        Stream.runCollect
      )
      if (inserted?._tag !== "Event" || updated?._tag !== "Event") throw new Error("a gap")
      const { data, key } = inserted.payload
      expect([data.id, key]).toEqual([9223372036854775807n, { id: "9223372036854775807" }])
      expect(BigDecimal.format(data.total)).toBe("1e+30")
      expect(data.parts).toEqual(["9007199254740993", { a: `0.${"0".repeat(399)}1` }])
      expect(updated.payload.old?.id).toBe(9223372036854775807n)
    }).pipe(Effect.provide(door))
  )
})

describe("A published number", () => {
  it.live("numbers published in SQL keep their digits, rounded for Schema.Number alone", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const { ws: url } = yield* Address
      const wire = yield* greet(url)
      yield* subscribe(wire, "chat")
      wire.send({ type: "subscribe", id: 2, channel: "average" })
      yield* wire.next("subscribed")
      yield* sql`select realtime.publish('chat', '[9007199254740993, 1.10, 1e400, 0.30000000000000004]')`
      expect(yield* nextText(wire)).toBe(`["9007199254740993",1.1,"1e400",0.30000000000000004]`)
      yield* sql`select realtime.publish('average', json_build_object('avg', avg(x), 'text', avg(x))::text)
        from (values (1), (1), (98)) v(x)`
      expect(yield* nextText(wire)).toBe(`{"avg":${100 / 3},"text":"33.3333333333333333"}`)
      yield* sql`select realtime.publish('average', '{"avg":9007199254740993,"text":"a"}')`
      expect(yield* nextText(wire)).toBe("gap invalid")
    }).pipe(Effect.provide(door))
  )

  it.live("numbers published by a client keep their digits before they are decoded", () =>
    Effect.gen(function* () {
      const { ws: url } = yield* Address
      const wire = yield* greet(url)
      let id = 0
      const publish = (channel: string, data: string) => {
        id++
        wire.send(
          `{"type":"publish","id":${id},"channel":"${channel}","key":"k${id}","data":${data}}`
        )
        return wire.next("published", "error")
      }
      for (const [index, { name }] of [Chat, Average, Exact].entries()) {
        wire.send({ type: "subscribe", id: 90 + index, channel: name })
        yield* wire.next("subscribed")
      }
      yield* publish("chat", "12345678901234567890")
      expect(yield* nextText(wire)).toBe(`"12345678901234567890"`)
      yield* publish("average", `{"avg":1.23456789012345678,"text":1.23456789012345678}`)
      expect(yield* nextText(wire)).toBe(`{"avg":1.2345678901234567,"text":"1.23456789012345678"}`)
      yield* publish("exact", `{"n":1.50}`)
      expect(yield* nextText(wire)).toBe(`{"n":1.5}`)
      // An integer is never rounded, and a string is no number.
      for (const avg of ["9007199254740993", `"1.23456789012345678"`, "1e400"]) {
        const answer = yield* publish("average", `{"avg":${avg},"text":"a"}`)
        expect([avg, answer]).toMatchObject([avg, { code: "publish/invalid" }])
      }
      expect(yield* publish("chat", `{"a\\\\":1}`)).toMatchObject({ code: "frame/malformed" })
    }).pipe(Effect.provide(door))
  )
})
