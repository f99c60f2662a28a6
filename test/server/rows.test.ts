/** A state has the rows that events have: same values, same text, whatever the session is set to. */
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

/** A pool as a session of somebody else's taste has it. */
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

/** What a page sees: the text of the wire, and back. */
const onTheWire = (value: unknown): unknown => JSON.parse(JSON.stringify(value))

describe("Realtime.rows", () => {
  it.live("gives a state whose rows are those of the events, also to a hostile session", () =>
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
        Realtime.rows(Order, sql`select * from orders where id > ${0} order by id desc`)
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
      // As the frames of the events say it, so one Schema reads both.
      const encoded = told.map((row) => Schema.encodeUnknownSync(Schema.toCodecJson(Order))(row))
      expect(onTheWire(state)).toMatchObject({ value: onTheWire(encoded), cursor: state.cursor })
      expect(encoded[0]).toMatchObject({ id: "1311768467463790321" })
      expect(encoded[1]).toMatchObject({ id: 5, total: 10.5 })
    }).pipe(Effect.provide(layer))
  )

  it.live("leaves the session as it was, also when its query fails", () =>
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
            const rows = yield* Realtime.rows(Row, sql`select current_setting('TimeZone') z`)
            const after = yield* zone
            const failed = yield* Effect.result(
              Realtime.rows(Row, sql`select (1 / (random() * 0)::int)::text z`)
            )
            return [rows[0]!.z, after, Result.isFailure(failed), yield* zone]
          })
        )
      }).pipe(Effect.provide(layerHostile))
      expect(inside).toEqual(["UTC", hostile.timezone, true, hostile.timezone])
    }).pipe(Effect.provide(layerReader()))
  )

  it.live("names the column that does not match, and never its value", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const Row = Schema.Struct({ id: Schema.Int, secret: Schema.String })
      const failed = yield* Effect.flip(
        Realtime.rows(Row, sql`select 1311768467463790321 id, ${"hidden"}::text secret`)
      )
      expect(failed).toMatchObject({ _tag: "RowMismatch", path: `["id"]`, expected: "number" })
      expect(failed.message).toContain("PgType.int8")
      expect(JSON.stringify([failed, failed.message])).not.toMatch(/hidden|13117/)
      // A number with a fraction is rounded where a double is asked for, as in an event.
      const [rounded] = yield* Realtime.rows(
        Schema.Struct({ avg: Schema.Number }),
        sql`select avg(x) from (values (1), (2), (2)) v(x)`
      )
      expect(rounded).toEqual({ avg: 5 / 3 })
    }).pipe(Effect.provide(layerReader()))
  )

  it.live("may have columns of any name", () =>
    Effect.gen(function* () {
      const sql = yield* PgClient.PgClient
      const Row = Schema.Struct({ q: Schema.String, x: Schema.Int, j: Schema.Null })
      expect([...(yield* Realtime.rows(Row, sql`select 'text' as q, 1 as x, null as j`))]).toEqual([
        { q: "text", x: 1, j: null }
      ])
    }).pipe(Effect.provide(layer))
  )
})
