/** The file of the gateway and its flags: what is refused, with its place and without a secret. */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Redacted } from "effect"
import { servedChannel } from "../../../src/bin/gateway/channels.ts"
import * as Config from "../../../src/bin/gateway/config.ts"
import { type Flags, joined } from "../../../src/bin/gateway/given.ts"
import { gatewaySentence } from "../../../src/bin/gateway/faults.ts"
import {
  ListenNotDelivered,
  NotPrimary
} from "../../../src/server/internal/link/databaseRefusal.ts"
import { authenticator } from "../../../src/bin/gateway/identity.ts"
import { servedTable } from "../support/gateway.ts"

const parse = (json: unknown) =>
  Config.parse("gateway.json", typeof json === "string" ? json : JSON.stringify(json))

const fault = (json: unknown) =>
  parse(json).pipe(
    Effect.flip,
    Effect.map((error) => error.message)
  )

/** The message of what a call throws. */
const thrown = (call: () => unknown): string => {
  try {
    call()
  } catch (error) {
    return (error as Error).message
  }
  return "nothing"
}

const flags: Flags = {
  channels: [],
  tables: [],
  read: undefined,
  publish: undefined,
  allowAll: undefined,
  rest: {},
  places: new Map()
}

const named = (delivery: "live" | "durable", name: string) => ({
  delivery,
  name,
  place: `--${delivery}`
})

const live: Flags = { ...flags, channels: [named("live", "news")] }

const tables = (...names: ReadonlyArray<string>): Flags => ({
  ...flags,
  read: "any",
  tables: names.map((name) => ({ name, place: "--table" }))
})

describe("the file of the gateway", () => {
  it.effect(
    "names a key that it does not know, and a value that does not fit, by their places",
    () =>
      Effect.gen(function* () {
        expect(yield* fault({ chanels: {} })).toBe("gateway.json: chanels is not a known key.")
        expect(yield* fault({ channels: { news: { raed: "any" } } })).toBe(
          "gateway.json: channels.news.raed is not a known key."
        )
        expect(yield* fault({ channels: { news: { read: "sometimes" } } })).toBe(
          'gateway.json: channels.news.read should be "any" | "signed-in", or a claim such as { "claim": "team", "param": "id" } or { "claim": "team", "column": "team" }.'
        )
        expect(yield* fault({ origins: "here", limits: { drainTimeout: "soon" } })).toBe(
          'gateway.json: origins should be "any", or a list of origins such as ["https://app.example.com"]; limits.drainTimeout should be a duration such as "30 seconds".'
        )
        expect(yield* fault({ path: "realtime", install: "no", host: "" })).toBe(
          'gateway.json: host should be a text that is not empty; path should be a path such as "/realtime"; install should be true or false.'
        )
        expect(
          yield* fault({ tables: { orders: { read: { claim: "team", equals: "x" } } } })
        ).toMatch(/tables\.orders\.read/)
        expect(yield* fault({ port: "80" })).toContain("port should be")
      })
  )

  it.effect(
    "names the line and the column of what is not JSON, and a key that is there twice",
    () =>
      Effect.gen(function* () {
        const not = (text: string) => fault(text)
        expect(yield* not('{\n  "port": 8080,\n  "host": }')).toBe(
          "gateway.json: The text is not JSON at line 3, column 11."
        )
        expect(yield* not("")).toContain("line 1, column 1")
        expect(yield* not('{"a": 1')).toContain("line 1, column 8")
        expect(yield* not('{"a": [1, 2,]}')).toContain("line 1, column 13")
        expect(yield* not("{}\r\n{}")).toContain("line 2, column 1")
        expect(
          yield* not(
            '{"channels": {\n"news": {"read": "any"},\n"\\u006eews": {"read": "signed-in"}}}'
          )
        ).toBe(
          "gateway.json: The key channels.news is there twice, again at line 3, column 1. Give it once."
        )
        expect(yield* parse('\uFEFF{"port": 1e3, "channels": {"a": {}}}')).toEqual({
          port: 1000,
          channels: { a: {} }
        })
      })
  )

  it.effect("never repeats a text of a file that is not JSON, because it may hold a secret", () =>
    Effect.gen(function* () {
      for (const text of ['{"jwt":{"secret":hunter2}}', '{"a":"hunter2"', "hunter2"]) {
        const message = yield* fault(text)
        expect(message).toContain("The text is not JSON")
        expect(message).not.toContain("hunter")
      }
      expect(yield* fault({ jwt: { secret: 7_654_321 } })).not.toContain("7654321")
      const { jwt } = yield* parse({ jwt: { secret: "hunter2" } })
      expect(Redacted.value(jwt!.secret!)).toBe("hunter2")
    })
  )
})

describe("the flags of the gateway", () => {
  it("refuse to open what no rule opens, and to serve nothing", () => {
    expect(thrown(() => joined({}, flags))).toContain("There is nothing to serve")
    expect(thrown(() => joined({}, live))).toContain("No client may use anything")
    expect(joined({}, { ...live, allowAll: true }).channels).toEqual([
      {
        name: "news",
        place: "--live news",
        config: { delivery: "live", read: "any", publish: "any" }
      }
    ])
    expect(joined({}, { ...live, read: "any" }).channels).toMatchObject([
      { name: "news", config: { delivery: "live", read: "any" } }
    ])
  })

  it("open with allowAll only what has no rule of its own", () => {
    const file: Config.Config = {
      channels: { news: { read: "any" }, staff: {} },
      tables: { orders: { read: "signed-in" }, items: {} },
      jwt: { keys: "https://id.example.com/keys" }
    }
    const open = joined(file, { ...flags, allowAll: true }, "gateway.json")
    expect(open.channels).toEqual([
      { name: "news", place: "gateway.json: channels.news", config: { read: "any" } },
      {
        name: "staff",
        place: "gateway.json: channels.staff",
        config: { read: "any", publish: "any" }
      }
    ])
    expect(open.tables.map(({ config, name }) => [name, config.read])).toEqual([
      ["orders", "signed-in"],
      ["items", "any"]
    ])
  })

  it("refuse a rule about tokens without a way to check them, and say all ways", () => {
    const channels = { news: { read: "signed-in" } } as const
    const said = thrown(() => joined({ channels }, flags, "gateway.json"))
    expect(said).toContain("gateway.json: channels.news: Its rule needs tokens")
    expect(said).toContain("REALTIME_JWT_SECRET")
    expect(said).toContain("--jwt-keys")
  })

  it("refuse a channel that is named twice, with both places", () => {
    expect(thrown(() => joined({ channels: { news: {} } }, live, "gateway.json"))).toBe(
      "--live news: gateway.json: channels.news has this channel too. Give it once, with one delivery."
    )
    const both = { ...flags, channels: [named("live", "news"), named("durable", "news")] }
    expect(thrown(() => joined({}, both))).toBe(
      "--durable news: --live news has this channel too. Give it once, with one delivery."
    )
    const changes = { ...tables("orders"), channels: [named("live", "table_updates_orders")] }
    expect(thrown(() => joined({}, changes))).toContain(
      '--table orders: --live table_updates_orders has the channel "table_updates_orders" too.'
    )
  })

  it("keep tables of one name in two schemas apart, and refuse one that is named twice", () => {
    expect(joined({}, tables("shop.orders", "orders=mine")).tables).toEqual([
      { name: "orders", place: "--table shop.orders", config: { schema: "shop", read: "any" } },
      { name: "orders", place: "--table orders=mine", config: { channel: "mine", read: "any" } }
    ])
    expect(joined({}, tables('"a.b=c"=mine')).tables).toMatchObject([
      { name: "a.b=c", config: { channel: "mine" } }
    ])
    expect(thrown(() => joined({}, tables("orders", "public.orders=mine")))).toBe(
      "--table public.orders=mine: --table orders has the table public.orders too. Give it once."
    )
    expect(thrown(() => joined({}, tables("s1.things", "s2.things")))).toContain(
      '--table s2.things: --table s1.things has the channel "table_updates_things" too. Give one of them another: --table s2.things=<channel>'
    )
    const file: Config.Config = {
      tables: {
        "s1.things": { channel: "one" },
        "s2.things": { channel: "two" },
        "a.b": { schema: "s3" }
      }
    }
    expect(
      joined(file, { ...flags, allowAll: true }).tables.map(({ config, name }) => [
        config.schema,
        name,
        config.channel
      ])
    ).toEqual([
      ["s1", "things", "one"],
      ["s2", "things", "two"],
      ["s3", "a.b", undefined]
    ])
    const again: Config.Config = { tables: { things: { schema: "s1" }, "s1.things": {} } }
    expect(thrown(() => joined(again, { ...flags, allowAll: true }))).toContain(
      "has the table s1.things too"
    )
  })

  it("refuse a port that there is not, by the spelling that was used", () => {
    const at = (port: number) => ({
      ...live,
      read: "any" as const,
      rest: { port },
      places: new Map([["port", "REALTIME_PORT"]])
    })
    expect(thrown(() => joined({}, at(99_999)))).toBe(
      "REALTIME_PORT: 99999 is no port. Give one from 1 to 65535, or 0 for a free one."
    )
    const file = { port: -1, channels: { news: { read: "any" } } } as const
    expect(thrown(() => joined(file, flags, "gateway.json"))).toContain("gateway.json: port: -1")
  })
})

describe("the channels of the gateway", () => {
  const described = { key: ["id"], columns: ["id", "team", "status"] }

  it("are families where their names have a parameter", () => {
    const { definition } = servedChannel("room_{room}", { read: { claim: "rooms", param: "room" } })
    expect({ ...definition }).toMatchObject({ _tag: "Family", prefix: "room_", publish: false })
    expect(servedChannel("news", { publish: "any", delivery: "durable" }).definition).toMatchObject(
      {
        _tag: "Channel",
        publish: true,
        delivery: "durable"
      }
    )
    const here = servedChannel("in_{room}", { delivery: "presence", counts: "devices" })
    expect({ ...here.definition }).toMatchObject({ delivery: "presence", prefix: "in_" })
  })

  it("name the place of a rule or an option that they cannot have", () => {
    const claim = { claim: "rooms", param: "room" } as const
    expect(thrown(() => servedChannel("news", { read: claim }))).toBe(
      'channels.news.read: The channel has no parameter "room". Put it into the channel\'s name, such as "room_{room}".'
    )
    const column = { claim: "team", column: "team" } as const
    expect(thrown(() => servedChannel("news", { publish: column }))).toContain(
      "Only a table has columns"
    )
    expect(thrown(() => servedChannel("news", { latestBy: "user" }))).toContain(
      "Only a volatile channel"
    )
    expect(thrown(() => servedChannel("news", { counts: "devices" }))).toContain(
      "Only a presence channel"
    )
    expect(thrown(() => servedChannel("n ews", {}))).toContain("channels.n ews: ")
    expect(thrown(() => servedTable("orders", { read: claim }, described))).toContain(
      "A table has no parameter"
    )
    expect(thrown(() => servedTable("orders", { filter: "stat" }, described))).toBe(
      'tables.orders: The table has no column "stat".'
    )
    expect(thrown(() => servedTable("orders", {}, { ...described, key: [] }))).toContain(
      "no primary key"
    )
  })

  it("of a table keep the column of a claim as a boundary, unless clients filter by it", () => {
    const read = { claim: "team", column: "team" } as const
    expect(servedTable("orders", { read }, described).definition.table).toMatchObject({
      key: ["id"],
      boundary: ["team"],
      filter: []
    })
    expect(
      servedTable("orders", { read, filter: ["team"] }, described).definition.table
    ).toMatchObject({
      boundary: [],
      filter: ["team"]
    })
  })
})

describe("the tokens of the gateway", () => {
  it("are checked by a secret or by a key set, never by both or neither", () => {
    const secret = Redacted.make("0123456789abcdef0123456789abcdef")
    const keys = "https://id.example.com/keys"
    const said = (jwt: Config.Jwt) =>
      thrown(() => authenticator(jwt, (key) => `gateway.json: ${key}`))
    expect(said({ issuer: "me" })).toContain("gateway.json: jwt.issuer: Nothing says")
    expect(said({})).toContain("REALTIME_JWT_SECRET")
    expect(said({ secret, keys })).toBe(
      "gateway.json: jwt.keys: gateway.json: jwt.secret gives a secret too. Give one of the two."
    )
    expect(said({ keys })).toContain("--jwt-issuer and --jwt-audience")
    expect(said({ secret: Redacted.make("short") })).toContain(
      "gateway.json: jwt.secret: The secret has 5 bytes, and needs 32 bytes or more"
    )
    expect(said({ keys: "http://id.example.com", issuer: "any", audience: "any" })).toContain(
      "gateway.json: jwt.keys: It is no https address"
    )
    expect(authenticator({ keys, issuer: "any", audience: "app" })).toBeTypeOf("function")
  })

  it.effect("are not needed by a client that sends none, and each such client is its own", () =>
    Effect.gen(function* () {
      const secret = Redacted.make("0123456789abcdef0123456789abcdef")
      const authenticate = authenticator({ secret })
      const credentials = { token: undefined, headers: {} } as never
      const [one, other] = [yield* authenticate(credentials), yield* authenticate(credentials)]
      expect(one.identity.claims).toBeUndefined()
      expect(one.identity.key).not.toBe(other.identity.key)
      const refused = yield* Effect.flip(authenticate({ token: "x.y.z", headers: {} } as never))
      expect(refused.code).toBe("auth/invalid")
    })
  )
})

describe("an error of the database", () => {
  it("has its cure in the words of the gateway where the server names its own", () => {
    const unheard = gatewaySentence(new ListenNotDelivered({ waited: 2000 }))
    expect(unheard).toContain("with --listen (REALTIME_LISTEN, in the file listen)")
    expect(unheard).not.toMatch(/listenUrl|layerDurable/)
    expect(gatewaySentence(new NotPrimary())).toContain(
      "Give --database the address of the primary"
    )
    expect(gatewaySentence(new Error("other"))).toBeUndefined()
  })
})
