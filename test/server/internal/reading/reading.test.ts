import { describe, expect, it } from "@effect/vitest"
import { Result, Schema } from "effect"
import * as Channel from "../../../../src/Channel.ts"
import type { Codec } from "../../../../src/ChannelBase.ts"
import * as PgType from "../../../../src/PgType.ts"
import { optionsOf, read } from "../../../../src/server/internal/reading/reading.ts"

/** Decodes a text: the payload, or the description of what does not fit. */
const reading = (channel: Channel.Any, text: string) => {
  const codec = channel.codec as Codec<unknown>
  return Result.merge(read(codec, channel.name, text, optionsOf(channel.name, codec)))
}

const as = <A, I>(schema: Schema.Codec<A, I>, text: string) =>
  reading(Channel.make("numbers", schema), text)

const long = "1.23456789012345678901"
const near = 1.2345678901234567

describe("Numbers with a fraction", () => {
  it.each<readonly [title: string, schema: Schema.Codec<unknown, unknown>, text: string, unknown]>([
    ["alone, as a number", Schema.Number, long, near],
    ["alone, as a finite one", Schema.Finite, `-${long}`, -near],
    ["in a struct", Schema.Struct({ avg: Schema.Number }), `{"avg":${long}}`, { avg: near }],
    [
      "in an optional field of a field",
      Schema.Struct({ a: Schema.Struct({ b: Schema.optionalKey(Schema.Finite) }) }),
      `{"a":{"b":${long}}}`,
      { a: { b: near } }
    ],
    ["in an array", Schema.Array(Schema.Finite), `[1,${long},${long}]`, [1, near, near]],
    ["in a tuple", Schema.Tuple([Schema.String, Schema.Number]), `[${long},${long}]`, [long, near]],
    ["in a record", Schema.Record(Schema.String, Schema.Number), `{"a":${long}}`, { a: near }],
    ["where null may stand", Schema.NullOr(Schema.Number), long, near],
    [
      "in one of several structs",
      Schema.Union([
        Schema.Struct({ kind: Schema.Literal("a"), v: Schema.Boolean }),
        Schema.Struct({ kind: Schema.Literal("b"), v: Schema.Finite, w: Schema.String })
      ]),
      `{"kind":"b","v":${long},"w":${long}}`,
      { kind: "b", v: near, w: long }
    ],
    [
      "beside literals that are no number",
      Schema.Union([Schema.Literal("none"), Schema.Finite]),
      long,
      near
    ],
    ["with an exponent", Schema.Number, "123456789012345678e-3", 123456789012345.67],
    ["too small for a double", Schema.Number, "1e-400", 0],
    [
      "beside a text",
      Schema.Struct({ a: Schema.Finite, b: Schema.String }),
      `{"a":${long},"b":"${long}"}`,
      { a: near, b: long }
    ]
  ])("a fraction %s, is rounded to the nearest double", (_, schema, text, expected) => {
    expect(as(schema, text)).toEqual(expected)
  })

  it.each<readonly [title: string, schema: Schema.Codec<unknown, unknown>, text: string, unknown]>([
    ["a string", Schema.String, long, long],
    ["a union with a string", Schema.Union([Schema.Finite, Schema.String]), long, long],
    ["an unknown value", Schema.Unknown, `[${long}]`, [long]],
    ["a column of PgType", PgType.numeric, long, long],
    [
      "one column, beside another that is rounded",
      Schema.Struct({ exact: Schema.String, near: Schema.Number }),
      `{"exact":${long},"near":${long}}`,
      { exact: long, near }
    ]
  ])("a fraction of 20 digits stays exact for %s", (_, schema, text, expected) => {
    expect(as(schema, text)).toEqual(expected)
  })

  it("a string of digits is never decoded as a number", () => {
    expect(as(Schema.Number, `"${long}"`)).toMatchObject({ path: "" })
    const both = Schema.Struct({ a: Schema.Number, b: Schema.Number })
    expect(as(both, `{"a":${long},"b":"${long}"}`)).toMatchObject({ path: `["b"]` })
    // Nor when its escapes spell the marker of an exact number.
    expect(as(both, `{"a":${long},"b":"\\u0031.2345678901234567890"}`)).toMatchObject({
      path: `["b"]`
    })
  })

  it("rounding a fraction does not hide that the payload is invalid elsewhere", () => {
    const schema = Schema.Struct({ a: Schema.Finite, b: Schema.Boolean })
    expect(as(schema, `{"a":${long},"b":1}`)).toMatchObject({ path: `["b"]` })
    const positive = Schema.Finite.check(Schema.isLessThan(0))
    expect(as(positive, long)).toMatchObject({ path: "" })
  })
})

describe("Integers", () => {
  it.each(["9007199254740993", "12345678901234567890.00", "1e400", "-1e999", "15e399"])(
    "an integer beyond 2^53 - 1 is never rounded: %s",
    (text) => {
      for (const schema of [Schema.Number, Schema.Finite, Schema.Int]) {
        expect(as(schema, text)).toMatchObject({ path: "", expected: expect.any(String) })
      }
    }
  )

  const Rows = (name: string) =>
    Channel.make(name, Schema.Struct({ id: Schema.Unknown }), { delivery: "durable" })

  it("an integer beyond 2^53 - 1 in a row from a trigger decodes as its digits, for every definition", () => {
    const text = `{"id":1152921504606847000}`
    const update = `{"operation":"INSERT","data":{"id":1152921504606847000}}`
    const Own = Channel.tableUpdates("orders", Schema.Struct({ id: Schema.Unknown }), {
      channel: "my_orders"
    })
    expect([
      reading(Rows("table_updates_orders"), text),
      reading(Channel.allTableUpdates.match("table_updates_x")!.channel, update),
      reading(Own, update),
      reading(Channel.untyped("table_updates_orders"), text)
    ]).toMatchObject([
      { id: "1152921504606847000" },
      { data: { id: "1152921504606847000" } },
      { data: { id: "1152921504606847000" } },
      { id: "1152921504606847000" }
    ])
    // Elsewhere the number may be what JSON.stringify(2 ** 60) writes.
    expect(reading(Rows("numbers"), text)).toEqual({ id: 1152921504606847000 })
  })
})

describe("Payloads that do not fit their schema", () => {
  const Orders = Channel.tableUpdates(
    "orders",
    Schema.Struct({
      id: Schema.Int,
      total: Schema.Finite,
      note: Schema.NullOr(Schema.String),
      prices: Schema.Record(Schema.String, Schema.Finite),
      meta: Schema.Unknown
    })
  )
  const row = { id: "1", total: "1.5", note: "null", prices: "{}", meta: "{}" }
  const told = (change: Partial<typeof row>) => {
    const members = Object.entries({ ...row, ...change }).map(([name, text]) => `"${name}":${text}`)
    return reading(Orders, `{"operation":"INSERT","data":{${members.join(",")}}}`)
  }

  it("a row that matches the schema decodes", () => {
    expect(told({})).toMatchObject({ data: { id: 1, total: 1.5 } })
  })

  it("the description of a misfit names the column, the expected type, and the PgType that reads it", () => {
    expect([
      told({ id: "1311768467463790321" }),
      told({ id: "123456789012345678901234567890" }),
      told({ total: "12345678901234567890" }),
      told({ note: "5" }),
      told({ note: "1.5" })
    ]).toEqual([
      {
        path: `["data"]["id"]`,
        expected: "number",
        cure: "a number that a double does not hold exactly arrives as a string: read the column with PgType.int8"
      },
      expect.objectContaining({ cure: expect.stringMatching(/PgType\.numeric$/) }),
      expect.objectContaining({ path: `["data"]["total"]` }),
      expect.objectContaining({
        path: `["data"]["note"]`,
        cure: expect.stringContaining("PgType.int8String or PgType.numeric, which read both forms")
      }),
      expect.objectContaining({ cure: expect.stringContaining("PgType.numeric, which read both") })
    ])
  })

  it("the description of a misfit hides keys that are data, and every value", () => {
    const Check = Schema.String.check(Schema.makeFilter((text) => `${text} is wrong`))
    const Renamed = Schema.String.pipe(
      Schema.check(Schema.isPattern(/^a/, { expected: "a word that begins with a" }))
    )
    const found = [
      told({ prices: `{"secret":"secret"}` }),
      as(Schema.Struct({ a: Check }), `{"a":"secret"}`),
      as(Schema.Struct({ a: Renamed }), `{"a":"secret"}`),
      as(Schema.Array(Schema.Struct({ a: Schema.Int })), `[{"a":1},{}]`),
      as(
        Schema.Record(Schema.String, Schema.Struct({ a: Schema.Int })),
        `{"secret":{"a":"secret"}}`
      ),
      as(Schema.String, "secret")
    ]
    expect(found).toMatchObject([
      { path: `["data"]["prices"][*]`, expected: "number" },
      { path: `["a"]`, expected: "what the schema's own check takes" },
      { path: `["a"]`, expected: "a word that begins with a" },
      { path: `[1]["a"]`, expected: "the key to be there" },
      { path: `[*]["a"]`, expected: "number" },
      { path: "", expected: "JSON" }
    ])
    expect(JSON.stringify(found)).not.toContain("secret")
  })

  it("a schema whose own check throws gives a misfit that hides the thrown error", () => {
    const Throws = Schema.String.check(
      Schema.makeFilter(() => {
        throw new Error("secret")
      })
    )
    expect(as(Throws, `"a"`)).toMatchObject({
      path: "",
      expected: expect.not.stringContaining("secret")
    })
  })

  it.each([
    { title: "__proto__", text: `{"__proto__":{"a":1}}`, path: "[*]" },
    { title: "constructor, deep inside", text: `{"a":[0,{"constructor":1}]}`, path: "[*][*][*]" },
    { title: "prototype", text: `{"b":{"prototype":null}}`, path: "[*][*]" },
    { title: "a name that is spelled with an escape", text: `{"\\u005f_proto__":1}`, path: "[*]" }
  ])("a payload with a key that could reach a prototype does not fit: $title", ({ path, text }) => {
    const unfit = { path, expected: expect.stringContaining("an object without the name ") }
    expect(as(Schema.Unknown, text)).toMatchObject(unfit)
    expect(reading(Channel.untyped("a"), text)).toMatchObject(unfit)
  })

  it("a payload with escapes in its keys decodes like one without", () => {
    expect(as(Schema.Unknown, String.raw`{"a":1,"k\\":2}`)).toEqual({ a: 1, "k\\": 2 })
    const Row = Schema.Struct({ a: Schema.String, "k\n": Schema.Finite })
    // The engine alone would report a missing key, and the exact path rounds numbers too.
    expect(as(Row, String.raw`{"a":9007199254740993,"k\n":${long}}`)).toEqual({
      a: "9007199254740993",
      "k\n": near
    })
  })

  it("a value that equals a prototype key decodes", () => {
    const text = `{"a":"__proto__","constructors":["prototype"],"\\u00fc":1}`
    expect(as(Schema.Unknown, text)).toEqual(JSON.parse(text))
  })

  it("a prototype key is found in a payload 20,000 objects deep", () => {
    const depth = 20_000
    const text = `${`{"proto":`.repeat(depth)}0${"}".repeat(depth)}`
    expect(as(Schema.Int, text)).toMatchObject({ path: "", expected: "number" })
    expect(as(Schema.Int, text.replace("0}", `{"__proto__":0}}`))).toMatchObject({
      expected: expect.stringContaining("__proto__")
    })
  })
})
