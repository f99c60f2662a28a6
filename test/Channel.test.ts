import { describe, expect, it } from "@effect/vitest"
import { Effect, Result, Schema, SchemaGetter } from "effect"
import * as Channel from "../src/Channel.ts"
import { InvalidChannelName, InvalidPayload } from "../src/RealtimeError.ts"

const Text = Schema.Struct({ text: Schema.String })

const thrownBy = (run: () => unknown): unknown => {
  try {
    run()
  } catch (error) {
    return error
  }
  return undefined
}

const outcome = (result: Result.Result<string, InvalidPayload>) =>
  Result.isSuccess(result)
    ? result.success
    : `${result.failure.channel} ${result.failure.direction}: ${result.failure.issue}`

const accepts = (channel: Channel.Any, payloads: ReadonlyArray<unknown>) =>
  payloads.map((payload) => Result.isSuccess(channel.decode(payload)))

describe("Channel.make", () => {
  it.each(["a", "a".repeat(63), "pointer_moves", "a.b:c-D_9", "realtime_", "Realtime"])(
    "takes the name %j",
    (name) => {
      const { delivery, fault, name: taken, publish } = Channel.make(name, Text)
      expect({ delivery, fault, name: taken, publish }).toEqual({
        delivery: "live",
        fault: undefined,
        name,
        publish: false
      })
    }
  )

  it.each([
    { title: "an empty name", name: "", says: `The channel name "" is empty.` },
    {
      title: "64 bytes",
      name: "a".repeat(64),
      says: `The channel name "${"a".repeat(64)}" is 64 bytes long.`
    },
    {
      title: "a name too long to be quoted in full",
      name: "a".repeat(5000),
      says: `The channel name "${"a".repeat(80)}" is 5000 bytes long.`
    },
    {
      title: "a space",
      name: "a b",
      says: `The channel name "a b" contains a character that is not allowed.`
    },
    {
      title: "a quote",
      name: `a"b`,
      says: `The channel name "a\\"b" contains a character that is not allowed.`
    },
    {
      title: "a line feed at the end",
      name: "a\n",
      says: `The channel name "a\\n" contains a character that is not allowed.`
    },
    {
      title: "a letter outside of ASCII",
      name: "grün",
      says: `The channel name "grün" contains a character that is not allowed.`
    },
    {
      title: "the reserved name",
      name: "realtime",
      says: `The channel name "realtime" is reserved.`
    }
  ])("refuses $title and says the limit and the cure", ({ name, says }) => {
    const error = thrownBy(() => Channel.make(name, Text))
    expect(error).toBeInstanceOf(InvalidChannelName)
    expect({ ...(error as InvalidChannelName), message: (error as Error).message }).toMatchObject({
      _tag: "InvalidChannelName",
      channel: name,
      message: `${says} A name is 1-63 bytes of A-Z a-z 0-9 _ . : - and not "realtime".`
    })
  })

  it("lets clients publish with publish: true", () => {
    expect(Channel.make("moves", Text, { publish: true }).publish).toBe(true)
  })
})

describe("Channel.family", () => {
  const RoomId = Schema.String.check(Schema.isPattern(/^[a-z]+$/))
  const Room = Channel.family("room_", RoomId, Text, { publish: true })
  const Seat = Channel.family("seat_", Schema.FiniteFromString, Text)

  it("makes a channel from a parameter", () => {
    const { fault, name, publish } = Room("lobby")
    expect({ fault, name, publish }).toEqual({
      fault: undefined,
      name: "room_lobby",
      publish: true
    })
    expect(Channel.queryResults(Text)("42").name).toBe("query_results_42")
  })

  it("encodes the parameter into the name and decodes it from the name", () => {
    expect([Seat(7).name, Seat.match("seat_7")?.param]).toEqual(["seat_7", 7])
  })

  // The schema decodes each text: to 1, to 10, to a day, to "lobby".
  it.each([
    { of: Schema.FiniteFromString, is: ["1", "-1", "0.5"], others: ["01", "1.0", "1e0", "+1"] },
    { of: Schema.BigIntFromString, is: ["10", "-3"], others: ["010", "0xa", "0b1010"] },
    {
      of: Schema.DateFromString,
      is: ["2026-11-28T00:00:00.000Z"],
      others: ["2026-11-28", "2026-11-28T00:00:00Z"]
    },
    { of: Schema.Trim, is: ["lobby"], others: [" lobby", "lobby "] }
  ])("has one spelling of a parameter: $is, and not $others", ({ is, of, others }) => {
    const Each = Channel.family("each_", of as Schema.Codec<unknown, string>, Text)
    const found = [...is, ...others].map((text) => Each.match(`each_${text}`)?.channel.name)
    expect(found).toEqual([...is.map((text) => `each_${text}`), ...others.map(() => undefined)])
  })

  it("returns a channel with a fault when its schema does not decode the name it wrote", () => {
    // The schema writes upper case and reads lower case.
    const Shouted = Schema.String.pipe(
      Schema.decodeTo(Schema.String, {
        decode: SchemaGetter.transform((text: string) => text.toLowerCase()),
        encode: SchemaGetter.transform((text: string) => `${text.toUpperCase()}!`)
      })
    )
    const Each = Channel.family("each_", Shouted, Text)
    expect(Each("a").fault?.reason).toBe("has a parameter that does not match the family's schema")
  })

  it.effect.prop(
    "finds each channel it made by its name, with the same parameter (seed 1)",
    { number: Schema.Finite },
    ({ number }) =>
      Effect.sync(() => {
        // Some texts, such as `1e+21`, are not valid in a name. This test ignores that.
        const { name } = Seat(number)
        const found = Seat.match(name)
        // The schema writes minus zero as "0".
        expect([found?.channel.name, found?.param]).toEqual([name, number + 0])
      }),
    { arbitrary: { runs: 300, seed: 1 } }
  )

  it("returns the channel and the parameter of a name", () => {
    const found = Room.match("room_lobby")
    expect({ name: found?.channel.name, param: found?.param }).toEqual({
      name: "room_lobby",
      param: "lobby"
    })
  })

  it.each(["room_", "room", "rooms_lobby", "Room_lobby", "xroom_lobby", "room_LOBBY", ""])(
    "does not match the name %j",
    (name) => {
      expect(Room.match(name)).toBeUndefined()
    }
  )

  it("does not match its bare prefix, even when the schema accepts empty text", () => {
    expect(Channel.family("any_", Schema.String, Text).match("any_")).toBeUndefined()
  })

  it("returns a channel with a fault for a parameter that does not match its schema", () => {
    const { fault, name } = Room("LOBBY")
    expect({ fault, name }).toEqual({
      name: "room_LOBBY",
      fault: new InvalidChannelName({
        channel: "room_LOBBY",
        reason: "has a parameter that does not match the family's schema"
      })
    })
  })

  it("returns a channel with a fault for an empty parameter", () => {
    const Any = Channel.family("any_", Schema.String, Text)
    expect(Any("").fault).toEqual(
      new InvalidChannelName({
        channel: "any_",
        reason: "has a parameter that does not match the family's schema"
      })
    )
  })

  it("returns a channel with a fault for a parameter that makes the name longer than 63 bytes", () => {
    const Any = Channel.family("any_", Schema.String, Text)
    expect([Any("x".repeat(59)).fault, Any("x".repeat(60)).fault]).toEqual([
      undefined,
      new InvalidChannelName({
        channel: `any_${"x".repeat(60)}`,
        reason: "is 64 bytes long"
      })
    ])
  })

  it("rejects a prefix that is not valid in a name", () => {
    expect(
      ["a b", "x".repeat(63)].map((prefix) =>
        thrownBy(() => Channel.family(prefix, Schema.String, Text))
      )
    ).toEqual([
      new InvalidChannelName({
        channel: "a b",
        reason: "contains a character that is not allowed"
      }),
      new InvalidChannelName({ channel: "x".repeat(63), reason: "is 64 bytes long" })
    ])
  })

  it("shares one codec among all its channels", () => {
    expect(Room("lobby").codec).toBe(Room("attic").codec)
    expect(Room.match("room_lobby")?.channel.codec).toBe(Room("attic").codec)
    expect(Room("lobby").codec).not.toBe(Channel.family("room_", RoomId, Text)("lobby").codec)
  })
})

describe("the codec of a channel", () => {
  const Row = Schema.Struct({ at: Schema.Date, size: Schema.BigInt })
  const Rows = Channel.make("rows", Row)
  const row = { at: new Date(5), size: 12n }

  it("writes dates and bigints as JSON and reads them back", () => {
    const json = { at: "1970-01-01T00:00:00.005Z", size: "12" }
    expect([Rows.encode(row), Rows.decode(json)]).toEqual([
      Result.succeed(json),
      Result.succeed(row)
    ])
  })

  it("drops unknown properties", () => {
    expect(
      Channel.make("texts", Schema.Struct({ inner: Text })).decode({
        inner: { text: "a", extra: 1 },
        extra: 2
      })
    ).toEqual(Result.succeed({ inner: { text: "a" } }))
  })

  it("reports the channel, the direction and the path of a mismatch", () => {
    expect([
      Rows.decode({ at: 5, size: "12" }),
      Rows.encode({ ...row, at: new Date(NaN) })
    ]).toEqual([
      Result.fail(
        new InvalidPayload({
          channel: "rows",
          direction: "decode",
          issue: `Expected string\n  at ["at"]`
        })
      ),
      Result.fail(
        new InvalidPayload({
          channel: "rows",
          direction: "encode",
          issue: `Expected a valid Date\n  at ["at"]`
        })
      )
    ])
  })

  it("names the direction in the error message", () => {
    const fault = { channel: "rows", issue: "no" }
    expect(
      (["decode", "encode"] as const).map(
        (direction) => new InvalidPayload({ ...fault, direction }).message
      )
    ).toEqual([
      `Cannot decode a payload of channel "rows": no`,
      `Cannot encode a payload of channel "rows": no`
    ])
  })

  it("compiles the schema at the first payload", () => {
    let looked = 0
    const lazy = new Proxy(Text, {
      get: (target, key, receiver) => {
        looked++
        return Reflect.get(target, key, receiver)
      }
    })
    const channel = Channel.make("lazy", lazy)
    expect(looked).toBe(0)
    expect(channel.decode({ text: "a" })).toEqual(Result.succeed({ text: "a" }))
    expect(looked).toBeGreaterThan(0)
  })
})

describe("Channel.toJson", () => {
  const cycle: Record<string, unknown> = {}
  cycle["self"] = cycle

  const loose = Channel.untyped("loose")
  const strict = Channel.make("strict", Schema.Unknown)

  it.each([
    { title: "undefined", value: undefined, issue: "undefined is not JSON" },
    { title: "a cycle", value: cycle, issue: "Converting circular structure to JSON" },
    { title: "a bigint", value: 1n, issue: "Do not know how to serialize a BigInt" },
    { title: "a bigint inside", value: { a: [1n] }, issue: "Do not know how to serialize a BigInt" }
  ])("refuses $title", ({ issue, value }) => {
    expect(outcome(Channel.toJson(loose, value))).toContain(`loose encode: ${issue}`)
    expect(outcome(Channel.toJson(strict, value))).toBe("strict encode: Expected JSON value")
  })

  it.each([
    { json: "null" },
    { json: "false" },
    { json: "0" },
    { json: `""` },
    { json: "[]" },
    { json: "{}" },
    { json: `{"a":[1,"é\u2028"]}` }
  ])("writes $json", ({ json }) => {
    const value: unknown = JSON.parse(json)
    expect([Channel.toJson(loose, value), Channel.toJson(strict, value)]).toEqual([
      Result.succeed(json),
      Result.succeed(json)
    ])
  })

  it("writes no raw line feed, because a line feed separates frames", () => {
    expect(Channel.toJson(loose, { "a\n": "b\n" })).toEqual(Result.succeed(`{"a\\n":"b\\n"}`))
  })

  it("writes minus zero as zero", () => {
    expect(Channel.toJson(Channel.make("n", Schema.Finite), -0)).toEqual(Result.succeed("0"))
  })

  // JSON.stringify writes -0 as 0, so this property leaves -0 out.
  const notMinusZero = Schema.makeFilter((n: number) => !Object.is(n, -0))
  const Finite = Schema.Finite.check(notMinusZero)
  const Everything = Schema.Struct({
    string: Schema.String,
    finite: Finite,
    literal: Schema.Literals(["a", "b", 1, true]),
    date: Schema.Date,
    bigint: Schema.BigInt,
    optional: Schema.optionalKey(Schema.NullOr(Schema.Boolean)),
    array: Schema.Array(Schema.Tuple([Schema.Int.check(notMinusZero), Schema.String])),
    map: Schema.ReadonlyMap(Schema.String, Schema.Date),
    set: Schema.ReadonlySet(Schema.BigInt),
    record: Schema.Record(Schema.String, Schema.Option(Finite)),
    tree: Schema.Union([Schema.Struct({ leaf: Schema.String }), Schema.Array(Schema.Boolean)])
  })
  const everything = Channel.make("everything", Everything)
  const seed = 1

  it.effect.prop(
    `decodes each payload it encoded to an equal payload (seed ${seed})`,
    { payload: Everything },
    ({ payload }) =>
      Effect.sync(() => {
        const read = Result.flatMap(Channel.toJson(everything, payload), (text) =>
          everything.decode(JSON.parse(text))
        )
        expect(read).toEqual(Result.succeed(payload))
      }),
    { arbitrary: { runs: 1000, seed } }
  )
})

describe("Channel.untyped", () => {
  it("takes any JSON, and checks the name at first use", () => {
    expect([Channel.untyped("a").decode({ any: 1 }), Channel.untyped("a b").fault]).toEqual([
      Result.succeed({ any: 1 }),
      new InvalidChannelName({ channel: "a b", reason: "contains a character that is not allowed" })
    ])
  })

  it("shares one codec among all names", () => {
    expect(Channel.untyped("a").codec).toBe(Channel.untyped("b").codec)
  })
})

describe("the three known kinds", () => {
  it("query_results_<id> carries the data of a completed query or the error of a failed one", () => {
    const Report = Channel.queryResults(Text)
    expect(Report("42").name).toBe("query_results_42")
    expect(
      accepts(Report("42"), [
        { status: "completed", data: { text: "a" } },
        { status: "completed" },
        { status: "error", error: { any: "thing" } },
        { status: "paused" },
        { status: "completed", data: { text: 1 } },
        { data: { text: "a" } }
      ])
    ).toEqual([true, true, true, false, false, false])
  })

  it("table_updates_<table> carries the operation and the row", () => {
    const Texts = Channel.tableUpdates("texts", Text)
    const data = { text: "a" }
    expect(Texts.name).toBe("table_updates_texts")
    expect(
      accepts(Texts, [
        { operation: "INSERT", data },
        { operation: "UPDATE", data, old: data, key: { id: 1 }, truncated: true },
        { operation: "DELETE", data },
        { operation: "TRUNCATE", data },
        { operation: "INSERT" },
        { operation: "INSERT", data: { text: 1 } },
        { operation: "UPDATE", data, old: {} },
        { operation: "UPDATE", data, truncated: "yes" }
      ])
    ).toEqual([true, true, true, false, false, false, false, false])
  })

  it("tableUpdates rejects a table name that is no channel name, unless you pass a channel", () => {
    const table = "a table of another schema"
    expect(thrownBy(() => Channel.tableUpdates(table, Text))).toBeInstanceOf(InvalidChannelName)
    expect(Channel.tableUpdates(table, Text, { channel: "other" }).name).toBe("other")
  })

  it("system_notifications has a type and a message", () => {
    expect(Channel.systemNotifications.name).toBe("system_notifications")
    expect(
      accepts(Channel.systemNotifications, [
        { type: "info", message: "a" },
        { type: "warning", message: "a" },
        { type: "error", message: "" },
        { type: "debug", message: "a" },
        { type: "info" }
      ])
    ).toEqual([true, true, true, false, false])
  })

  it("known() returns all three kinds, read-only", () => {
    const known = Channel.known()
    expect(
      known.map((definition) =>
        definition._tag === "Channel"
          ? [definition.name, definition.publish]
          : [`${definition.prefix}*`, definition.publish]
      )
    ).toEqual([
      ["query_results_*", false],
      ["table_updates_*", false],
      ["system_notifications", false]
    ])
    const match = (name: string) =>
      known.flatMap((definition) =>
        definition._tag === "Family" ? [definition.match(name)?.channel.name] : []
      )
    expect([match("query_results_42"), match("table_updates_orders")]).toEqual([
      ["query_results_42", undefined],
      [undefined, "table_updates_orders"]
    ])
  })
})
