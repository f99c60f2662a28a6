/**
 * Rows of a snapshot equal rows of events: same values, same text, whatever the settings of the
 * session.
 */
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Layer, Redacted, Result, Schema, Stream } from "effect"
import * as Channel from "../../src/Channel.ts"
import * as PgType from "../../src/PgType.ts"
import * as PgInstaller from "../../src/server/PgInstaller.ts"
import * as MemorySource from "../../src/server/MemorySource.ts"
import * as Realtime from "../../src/server/Realtime.ts"
import { TestDatabase } from "../support/database.ts"
import { layerReader } from "./support/durable.ts"

const Order = Schema.Struct({
  id: PgType.int8,
  total: PgType.numeric,
  weight: PgType.float,
  at: PgType.timestamptz,
  took: PgType.interval,
  seal: PgType.bytea,
  place: Schema.String,
  meta: PgType.json,
  sizes: PgType.array(PgType.int8)
})
const Orders = Channel.tableUpdates("orders", Order, { delivery: "durable" })

const values = [
  `(1311768467463790321, 99999999999999.12345, 0.1::float8 + 0.2, '2026-11-28 18:23:57.123456Z',
    '10 mons 3 days -04:05:06.789', '\\x00ff', '(1.5,2)', '{"n":9007199254740993}', '{1,9223372036854775807,null}')`,
  `(5, 10.50, 12.5, '2026-06-01 00:00:00Z', '1 day', '', '(0,0)', '[1.50]', '{}')`
]

/** The settings of a session that change how PostgreSQL writes values. */
const hostile = {
  timezone: "America/New_York",
  datestyle: "German, DMY",
  intervalstyle: "sql_standard",
  extra_float_digits: "-15",
  bytea_output: "escape"
}

const layerHostile = Layer.unwrap(
  Effect.gen(function* () {
    const { url } = yield* TestDatabase
    const sql = yield* PgClient.PgClient
    const [row] = yield* sql<{ readonly name: string }>`select current_database() name`
    for (const [name, value] of Object.entries(hostile)) {
      yield* sql.unsafe(`alter database "${row!.name}" set ${name} = '${value}'`)
    }
    return PgClient.layer({ url: Redacted.make(url) })
  })
)

const layer = Realtime.layer().pipe(
  Layer.provide(MemorySource.layer),
  Layer.provideMerge(layerReader())
)

/** A value as a client decodes it from the text of the wire. */
const onTheWire = (value: unknown): unknown => JSON.parse(JSON.stringify(value))

describe("Realtime.readRows", () => {
  it.live("rows of a snapshot equal those of the events, whatever the session's settings", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      yield* sql`create table orders (id int8 primary key, total numeric, weight float8, at timestamptz,
        took interval, seal bytea, place point, meta jsonb, sizes int8[])`
      yield* PgInstaller.watch({ channel: Orders.name, table: "orders", delivery: "durable" })
      const { cursor } = yield* Realtime.snapshot(Effect.void)
      for (const value of values) yield* sql.unsafe(`insert into orders values ${value}`)
      const events = yield* Realtime.events(Orders, { from: cursor }).pipe(
        Stream.take(2),
        Stream.runCollect
      )
      const told = events.map((event) => {
        if (event._tag === "Gap") throw event
        return event.payload.data
      })
      const state = yield* Realtime.snapshot(
        Realtime.readRows(Order, sql`select * from orders where id > ${0} order by id desc`)
      ).pipe(Effect.provide(layerHostile))
      expect(state.value).toEqual(told)
      expect(state.value[0]).toMatchObject({
        id: 1311768467463790321n,
        total: "99999999999999.12345",
        weight: 0.1 + 0.2,
        at: "2026-11-28T18:23:57.123456+00:00",
        took: "10 mons 3 days -04:05:06.789",
        meta: { n: "9007199254740993" },
        sizes: [1n, 9223372036854775807n, null]
      })
      // The frames of the events have the same text, so one Schema decodes both.
      const encoded = told.map((row) => Schema.encodeUnknownSync(Schema.toCodecJson(Order))(row))
      expect(onTheWire(state)).toMatchObject({ value: onTheWire(encoded), cursor: state.cursor })
      expect(encoded[0]).toMatchObject({ id: "1311768467463790321" })
      expect(encoded[1]).toMatchObject({ id: 5, total: 10.5 })
    }).pipe(Effect.provide(layer))
  )

  it.live("rows that are their own JSON are a plain list, which a server component passes on", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const Plain = Schema.Struct({ id: Schema.Int, name: Schema.NullOr(Schema.String) })
      const plain = yield* Realtime.readRows(Plain, sql`select 1 id, null name`)
      expect(Object.getOwnPropertyNames(plain)).toEqual(["0", "length"])
      const exact = yield* Realtime.readRows(Schema.Struct({ id: PgType.int8 }), sql`select 1 id`)
      expect(Object.getOwnPropertyNames(exact)).toEqual(["0", "length", "toJSON"])
    }).pipe(Effect.provide(layer))
  )

  it.live("Realtime.readRows restores the session's settings, even after a failed query", () =>
    Effect.gen(function* () {
      const inside = yield* Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        const zone = Effect.map(
          sql<{ readonly z: string }>`select current_setting('TimeZone') z`,
          ([row]) => row!.z
        )
        const Row = Schema.Struct({ z: Schema.String })
        return yield* sql.withTransaction(
          Effect.gen(function* () {
            const rows = yield* Realtime.readRows(Row, sql`select current_setting('TimeZone') z`)
            const after = yield* zone
            const failed = yield* Effect.result(
              Realtime.readRows(Row, sql`select (1 / (random() * 0)::int)::text z`)
            )
            return [rows[0]!.z, after, Result.isFailure(failed), yield* zone]
          })
        )
      }).pipe(Effect.provide(layerHostile))
      expect(inside).toEqual(["UTC", hostile.timezone, true, hostile.timezone])
    }).pipe(Effect.provide(layerReader()))
  )

  it.live("a row that does not match fails with its column and without its value", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const Row = Schema.Struct({ id: Schema.Int, secret: Schema.String })
      const failed = yield* Effect.flip(
        Realtime.readRows(Row, sql`select 1311768467463790321 id, ${"hidden"}::text secret`)
      )
      expect(failed).toMatchObject({ _tag: "RowMismatch", path: `["id"]`, expected: "number" })
      expect(failed.message).toContain("PgType.int8")
      expect(JSON.stringify([failed, failed.message])).not.toMatch(/hidden|13117/)
      // A number with a fraction is rounded for Schema.Number, as in an event.
      const [rounded] = yield* Realtime.readRows(
        Schema.Struct({ avg: Schema.Number }),
        sql`select avg(x) from (values (1), (2), (2)) v(x)`
      )
      expect(rounded).toEqual({ avg: 5 / 3 })
    }).pipe(Effect.provide(layerReader()))
  )

  it.live("a column of a row may have any name, even that of an alias in our query", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const Row = Schema.Struct({ q: Schema.String, x: Schema.Int, j: Schema.Null })
      expect([
        ...(yield* Realtime.readRows(Row, sql`select 'text' as q, 1 as x, null as j`))
      ]).toEqual([{ q: "text", x: 1, j: null }])
    }).pipe(Effect.provide(layer))
  )
})
