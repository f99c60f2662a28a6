/**
 * PgType against PostgreSQL itself: every value passes through `row_to_json`, is decoded, and
 * encodes to the same text again.
 */
import { PgClient } from "@effect/sql-pg"
import { describe, expect, it } from "@effect/vitest"
import { BigDecimal, Effect, Result, Schema } from "effect"
import * as Exact from "../../src/internal/exact.ts"
import * as PgType from "../../src/PgType.ts"
import { layerDatabase } from "../support/database.ts"
import { random, seed } from "./support/random.ts"

const decimal = (text: string) => BigDecimal.fromStringUnsafe(text)

/** A column type with values as SQL, and the decoded value of each. */
interface Case {
  readonly name: string
  readonly schema: Schema.Codec<unknown, unknown>
  readonly type: string
  readonly values: ReadonlyArray<readonly [sql: string, expected: unknown]>
}

const one = <T, E>(
  name: string,
  schema: Schema.Codec<T, E>,
  type: string,
  values: ReadonlyArray<readonly [sql: string, expected: T]>
): Case => ({ name, schema: schema as Schema.Codec<unknown, unknown>, type, values })

const cases: ReadonlyArray<Case> = [
  one("int8", PgType.int8, "int8", [
    ["5", 5n],
    ["-9223372036854775808", -9223372036854775808n],
    ["9223372036854775807", 9223372036854775807n],
    ["9007199254740991", 9007199254740991n],
    ["9007199254740992", 9007199254740992n],
    ["1311768467463790321", 1311768467463790321n],
    // The digits that PostgreSQL wrote, and not those of the nearest double.
    ["1152921504606847000", 1152921504606847000n]
  ]),
  one("int8String", PgType.int8String, "int8", [
    ["5", "5"],
    ["0", "0"],
    ["1311768467463790321", "1311768467463790321"],
    ["1152921504606847000", "1152921504606847000"]
  ]),
  one("numeric", PgType.numeric, "numeric", [
    ["2.50", "2.5"],
    ["99999999999999.12345", "99999999999999.12345"],
    ["12345678901234567890.50", "12345678901234567890.5"],
    ["1e30", "1000000000000000000000000000000"],
    ["1e-7", "0.0000001"],
    ["0.0000000000000000000000000000001", "0.0000000000000000000000000000001"],
    ["-0.1", "-0.1"],
    ["0.00", "0"],
    ["'NaN'", "NaN"],
    ["repeat('9', 300)", "9".repeat(300)]
  ]),
  one("numericBigDecimal", PgType.numericBigDecimal, "numeric", [
    ["2.50", decimal("2.5")],
    ["99999999999999.12345", decimal("99999999999999.12345")],
    ["1e30", decimal("1e30")],
    ["-1e-20", decimal("-1e-20")]
  ]),
  one("float of float8", PgType.float, "float8", [
    ["0.30000000000000004", 0.30000000000000004],
    ["1e300", 1e300],
    ["5e-324", 5e-324],
    ["1e15", 1e15],
    ["'NaN'", Number.NaN],
    ["'Infinity'", Infinity],
    ["'-Infinity'", -Infinity]
  ]),
  one("float of float4", PgType.float, "float4", [["0.1", 0.1]]),
  one("oid", PgType.oid, "oid", [
    ["0", 0],
    ["4294967295", 4_294_967_295]
  ]),
  one("timestamptz", PgType.timestamptz, "timestamptz", [
    ["'2026-11-28 18:23:57.123456Z'", "2026-11-28T18:23:57.123456+00:00"],
    ["'infinity'", "infinity"],
    ["'0044-03-15 12:00:00Z BC'", "0044-03-15T12:00:00+00:00 BC"],
    ["'294276-12-31 23:59:59.999999Z'", "294276-12-31T23:59:59.999999+00:00"]
  ]),
  one("timestamptzDate", PgType.timestamptzDate, "timestamptz", [
    ["'2026-11-28 18:23:57.12Z'", new Date("2026-11-28T18:23:57.120Z")],
    ["'2026-11-28 18:23:57Z'", new Date("2026-11-28T18:23:57Z")],
    ["'12026-11-28 18:00:00Z'", new Date("+012026-11-28T18:00:00Z")],
    ["'0044-03-15 12:00:00Z BC'", new Date("-000043-03-15T12:00:00Z")],
    ["'0001-01-01 00:00:00Z'", new Date("0001-01-01T00:00:00Z")]
  ]),
  one("timestamp", PgType.timestamp, "timestamp", [
    ["'2026-11-28 18:23:57.123456'", "2026-11-28T18:23:57.123456"],
    ["'-infinity'", "-infinity"],
    ["'4713-01-01 00:00:00 BC'", "4713-01-01T00:00:00 BC"]
  ]),
  one("date", PgType.date, "date", [
    ["'2026-11-28'", "2026-11-28"],
    ["'infinity'", "infinity"],
    ["'0044-03-15 BC'", "0044-03-15 BC"],
    ["'5874897-12-31'", "5874897-12-31"]
  ]),
  one("time of time", PgType.time, "time", [
    ["'24:00:00'", "24:00:00"],
    ["'12:34:56.1'", "12:34:56.1"]
  ]),
  one("time of timetz", PgType.time, "timetz", [["'12:34:56.1+05:30'", "12:34:56.1+05:30"]]),
  one("interval", PgType.interval, "interval", [
    ["'10 mons 3 days -04:05:06.789'", "10 mons 3 days -04:05:06.789"],
    ["'1 year'", "1 year"],
    ["'0'", "00:00:00"],
    ["'-1 day +1000:00:00'", "-1 days +1000:00:00"],
    ["'178000000 years'", "178000000 years"]
  ]),
  one("bytea", PgType.bytea, "bytea", [
    [String.raw`'\x00ff10'`, new Uint8Array([0, 255, 16])],
    ["''", new Uint8Array()]
  ]),
  one("json", PgType.json, "json", [
    [`'{"a":1.0,"b":[9007199254740993]}'`, { a: 1, b: ["9007199254740993"] }],
    ["'null'", null]
  ]),
  one("json of jsonb", PgType.json, "jsonb", [
    [`'{"b":1e400,"a":1.50}'`, { a: 1.5, b: `1${"0".repeat(400)}` }]
  ]),
  one("array of int8", PgType.array(PgType.int8), "int8[]", [
    ["'{}'", []],
    ["'{1,9223372036854775807,null}'", [1n, 9223372036854775807n, null]],
    ["'[5:6]={1,2}'", [1n, 2n]]
  ]),
  one("array of arrays", PgType.array(PgType.array(PgType.numeric)), "numeric[]", [
    [
      "'{{1.50,2},{3,12345678901234567890.1}}'",
      [
        ["1.5", "2"],
        ["3", "12345678901234567890.1"]
      ]
    ]
  ]),
  one("hstore", PgType.hstore, "hstore", [
    [`'a=>1, b=>NULL, "c d"=>"9007199254740993"'`, { a: "1", b: null, "c d": "9007199254740993" }]
  ])
]

/** The settings that a trigger sets. */
const settings = ["timezone = 'UTC'", "datestyle = 'ISO'", "intervalstyle = 'postgres'"]

const layer = it.layer(layerDatabase, { timeout: "1 minute" })

describe("PgType decodes and encodes what row_to_json writes of", () => {
  layer((it) => {
    it.effect.each(cases)("$name", ({ schema, type, values }) =>
      Effect.gen(function* () {
        const sql = yield* PgClient.PgClient
        const read = Schema.decodeUnknownSync(Schema.toCodecJson(schema))
        if (type === "hstore") yield* sql`create extension if not exists hstore`
        const write = Schema.encodeUnknownSync(Schema.toCodecJson(schema))
        for (const [value, expected] of values) {
          const rows = yield* sql.withTransaction(
            Effect.gen(function* () {
              for (const setting of settings) yield* sql.unsafe(`set local ${setting}`)
              return yield* sql.unsafe<{ readonly j: string }>(
                `select row_to_json(r)::text j from (select (${value})::${type} v) r`
              )
            })
          )
          const { v } = Exact.parse(rows[0]!.j, { row: true }) as { readonly v: unknown }
          const decoded = read(v)
          if (BigDecimal.isBigDecimal(expected)) {
            expect(BigDecimal.equals(decoded as BigDecimal.BigDecimal, expected)).toBe(true)
          } else expect([value, decoded]).toStrictEqual([value, expected])
          // Typed and untyped channels send the same text.
          expect([value, JSON.stringify(write(decoded))]).toEqual([value, JSON.stringify(v)])
        }
      })
    )
  })
})

describe("PgType", () => {
  /** The values that a schema decodes. */
  const accepted = <T, E>(schema: Schema.Codec<T, E>, values: ReadonlyArray<unknown>) => {
    const read = Schema.decodeUnknownResult(schema)
    return values.filter((value) => Result.isSuccess(read(value)))
  }

  it("PgType rejects text that no column of the type can hold, even of 1,000,000 digits", () => {
    const long = "1".repeat(1_000_000)
    expect(
      [
        accepted(PgType.int8, [
          "9223372036854775808",
          1.5,
          2 ** 63,
          "",
          "1.5",
          "0x1",
          " 1",
          long,
          null
        ]),
        accepted(PgType.int8String, ["-9223372036854775809", "abc", true]),
        accepted(PgType.numeric, [
          "",
          "1.",
          "+1",
          "1e1000000000",
          "1e-1000000000",
          long,
          "infinity",
          {}
        ]),
        accepted(PgType.numericBigDecimal, ["NaN", "", long]),
        accepted(PgType.float, ["1e400", "", "abc", long, null]),
        accepted(PgType.oid, [-1, 4_294_967_296, 1.5]),
        accepted(PgType.timestamptz, ["2026-11-28T18:23:57", "2026-11-28", "now"]),
        accepted(PgType.timestamptzDate, ["infinity", "2026-06-31T00:00:00+00:00", "", 0]),
        accepted(PgType.timestamp, ["2026-11-28T18:23:57Z", ""]),
        accepted(PgType.date, ["2026-11-28T00:00:00", "28.11.2026"]),
        accepted(PgType.time, ["12:34", "12:34:56.1234567"]),
        accepted(PgType.interval, ["", "PT1H", "+0-10 +3 -4:05:06.789"]),
        accepted(PgType.bytea, [String.raw`\000\377`, "\\x0", "ff"])
      ].flat()
    ).toEqual([])
  })

  it("PgType encodes only values that the column can hold", () => {
    const fails = <T>(schema: Schema.Codec<T, unknown>, value: T) =>
      Result.isFailure(Schema.encodeUnknownResult(schema)(value))
    expect([
      fails(PgType.int8, 2n ** 63n),
      fails(PgType.int8String, "1.5"),
      fails(PgType.numeric, "abc"),
      fails(PgType.numericBigDecimal, BigDecimal.make(1n, 1_000_000_000)),
      fails(PgType.oid, -1),
      fails(PgType.timestamptzDate, new Date(Number.NaN))
    ]).toEqual([true, true, true, true, true, true])
  })

  it("PgType.float rounds to the nearest double", () => {
    const read = Schema.decodeUnknownSync(PgType.float)
    expect(["1.2345678901234567890", "12345678901234567890", 0.1].map((one) => read(one))).toEqual([
      1.2345678901234567, 12345678901234567000, 0.1
    ])
  })

  it(`a numeric PgType encodes every number to its untyped text (seed ${seed})`, () => {
    const r = random(seed)
    const schemas = [PgType.numeric, PgType.numericBigDecimal] as ReadonlyArray<
      Schema.Codec<unknown, number | string>
    >
    for (let run = 0; run < 2000; run++) {
      const digits = (count: number) => Array.from({ length: count }, () => r.int(10)).join("")
      const number = `${r.pick(["", "-"])}${1 + r.int(9)}${digits(r.int(25))}${r.pick(["", `.${digits(1 + r.int(25))}`])}`
      const untyped = Exact.parse(number, { row: true })
      for (const schema of schemas) {
        const value = Schema.decodeUnknownSync(schema)(untyped)
        expect(Schema.encodeUnknownSync(schema)(value)).toBe(untyped)
      }
    }
  })
})
