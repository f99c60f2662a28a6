/** The file of the gateway and its flags: what is refused, with its place and without a secret. */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Redacted } from "effect"
import { servedChannel, servedTable } from "../../../src/bin/gateway/channels.ts"
import * as Config from "../../../src/bin/gateway/config.ts"
import { type Flags, joined } from "../../../src/bin/gateway/given.ts"
import { authenticator } from "../../../src/bin/gateway/identity.ts"

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
  channels: { live: [], durable: [], volatile: [], presence: [] },
  tables: [],
  read: undefined,
  publish: undefined,
  allowAll: false,
  rest: {}
}

describe("the file of the gateway", () => {
  it.effect(
    "names a key that it does not know, and a value that does not fit, by their places",
    () =>
      Effect.gen(function* () {
        expect(yield* fault({ chanels: {} })).toBe("gateway.json: chanels is not a known key.")
        expect(yield* fault({ channels: { news: { raed: "any" } } })).toBe(
          "gateway.json: channels.news.raed is not a known key."
        )
        expect(yield* fault({ channels: { news: { read: "sometimes" } } })).toContain(
          'channels.news.read should be "any" | "signed-in"'
        )
        expect(
          yield* fault({ tables: { orders: { read: { claim: "team", equals: "x" } } } })
        ).toMatch(/tables\.orders\.read/)
        expect(yield* fault({ port: "80" })).toContain("port should be")
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
    const live = { ...flags, channels: { ...flags.channels, live: ["news"] } }
    expect(thrown(() => joined({}, live))).toContain("No client may use anything")
    expect(joined({}, { ...live, allowAll: true }).channels).toEqual({
      news: { delivery: "live", read: "any", publish: "any" }
    })
    expect(joined({}, { ...live, read: "any" }).channels).toEqual({
      news: { delivery: "live", read: "any" }
    })
  })

  it("open with allowAll only what has no rule of its own", () => {
    const file: Config.Config = {
      channels: { news: { read: "any" }, staff: {} },
      tables: { orders: { read: "signed-in" }, items: {} },
      jwt: { keys: "https://id.example.com/keys" }
    }
    expect(joined(file, { ...flags, allowAll: true })).toMatchObject({
      channels: { news: { read: "any" }, staff: { read: "any", publish: "any" } },
      tables: { orders: { read: "signed-in" }, items: { read: "any" } }
    })
  })

  it("refuse a rule about tokens without a way to check them, and a name that is given twice", () => {
    const channels = { news: { read: "signed-in" } } as const
    expect(thrown(() => joined({ channels }, flags))).toContain(
      "channels.news: Its rule needs tokens"
    )
    const live = { ...flags, channels: { ...flags.channels, live: ["news"] }, read: "any" } as const
    expect(thrown(() => joined({ channels: { news: {} } }, live))).toContain("Give it once")
    expect(joined({}, { ...flags, tables: ["shop.orders"], read: "any" }).tables).toEqual({
      orders: { schema: "shop", read: "any" }
    })
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
    for (const jwt of [{}, { secret, keys }]) {
      expect(thrown(() => authenticator(jwt))).toContain('Give either "secret"')
    }
    expect(thrown(() => authenticator({ keys }))).toContain(
      'A key set needs "issuer" and "audience"'
    )
    expect(thrown(() => authenticator({ secret: Redacted.make("short") }))).toContain("32 bytes")
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
