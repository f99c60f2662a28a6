/**
 * The hand-written codecs: the golden frames of both directions, and invalid frames.
 */
import { describe, expect, it } from "@effect/vitest"
import { Result } from "effect"
import * as Frame from "../src/Frame.ts"
import * as FrameText from "../src/internal/frameText.ts"
import { golden } from "./support/golden.ts"

const { client, server } = golden

const at = "2026-11-22T10:00:00.000Z"

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

const reverse = (value: object): Record<string, unknown> =>
  Object.fromEntries(Object.entries(value).toReversed())

/** Adds unknown fields to the frame and to the objects that the protocol defines. */
const extend = (value: Readonly<Record<string, unknown>>): unknown => ({
  first: { any: 1 },
  ...value,
  ...(isRecord(value["client"]) ? { client: { ...value["client"], since: 1 } } : {}),
  ...(isRecord(value["limits"]) ? { limits: { since: [], ...value["limits"] } } : {}),
  ...(Array.isArray(value["events"])
    ? { events: value["events"].map((event: object) => ({ ...event, by: "me" })) }
    : {}),
  after: [null]
})

/** Decodes a client's text as the server does: the frame, or "code id: reason". */
const receive = (text: string): Frame.ClientFrame | string =>
  Result.match(Frame.decodeClientFrame(text), {
    onSuccess: (frame) => frame,
    onFailure: ({ code, id, reason }) => `${code} ${id}: ${reason}`
  })

/** Nested arrays, `depth` in all. */
const nested = (depth: number) => "[".repeat(depth) + "]".repeat(depth)

const nestedObjects = (depth: number) => `${`{"a":`.repeat(depth)}0${"}".repeat(depth)}`

const withId = (id: string) => receive(`{"type":"unsubscribe","id":${id},"channel":"a"}`)

const withKey = (key: string) =>
  receive(JSON.stringify({ type: "publish", id: 3, channel: "a", key, data: 0 }))

const withData = (data: string, options?: { readonly maxDepth: number }) =>
  Result.match(
    Frame.decodeClientFrame(
      `{"type":"publish","id":6,"channel":"a","key":"k","data":${data}}`,
      options
    ),
    { onSuccess: ({ type }) => type, onFailure: ({ message, id }) => `${message} (${id})` }
  )

describe("the frames of a client", () => {
  it.each(client)("$name decodes with its fields in any order", ({ frame, text }) => {
    expect(Frame.encode(reverse(frame) as unknown as Frame.ClientFrame)).toBe(text)
    expect(receive(JSON.stringify(reverse(frame)))).toStrictEqual(frame)
  })

  it.each(client)("$name decodes without its unknown fields", ({ frame }) => {
    expect(receive(JSON.stringify(extend({ ...frame })))).toStrictEqual(frame)
  })

  it("keep the digits of a number that is not an exact double", () => {
    const text = `{"type":"publish","id":1,"channel":"a","key":"k","data":[9007199254740993,1.5,"9007199254740993"]}`
    expect(receive(text)).toMatchObject({ data: ["9007199254740993", 1.5, "9007199254740993"] })
    // An id is rejected instead, because the answer would carry another id.
    expect(receive(`{"type":"unsubscribe","id":9007199254740993,"channel":"a"}`)).toBe(
      "frame/malformed undefined: not a valid unsubscribe frame"
    )
  })

  it.each([
    { title: "an escaped backslash", name: String.raw`k\\` },
    { title: "its code", name: String.raw`k\u005c` },
    { title: "its code in capitals, deep inside", name: String.raw`k":[{"\u005C` }
  ])("with $title in a name are rejected, and later frames decode as before", ({ name }) => {
    const publish = (data: string) =>
      receive(`{"type":"publish","id":6,"channel":"a","key":"k","data":${data}}`)
    const close = name.includes("[") ? "}]" : ""
    expect(publish(`{"a":1,"${name}":2${close}}`)).toBe(
      "frame/malformed 6: a key with a backslash is not allowed"
    )
    // V8 would read this name as k and a backslash if it had cached that name.
    expect(publish(String.raw`{"a":1,"k\n":2}`)).toMatchObject({ data: { "k\n": 2 } })
  })

  it("may contain backslashes in values, and other escapes in names", () => {
    const data = { "a\nb": "c\\d", ü: "\\" }
    expect(
      receive(JSON.stringify({ type: "publish", id: 1, channel: "a", key: "k", data }))
    ).toMatchObject({ data })
  })

  it("a payload that is already text encodes to the same bytes", () => {
    const published = client.flatMap(({ frame, text }) =>
      frame.type === "publish" &&
      frame.within === undefined &&
      frame.trace === undefined &&
      frame.key !== undefined
        ? [
            {
              text,
              direct: FrameText.encodePublish(
                frame.id,
                frame.channel,
                frame.key,
                JSON.stringify(frame.data)
              )
            }
          ]
        : []
    )
    expect(published.map(({ direct }) => direct)).toEqual(published.map(({ text }) => text))
    expect(published).toHaveLength(2)
  })
})

describe("the frames of a server", () => {
  it.each(server)("$name decodes with its fields in any order", ({ frame, text }) => {
    expect(Frame.encode(reverse(frame) as unknown as Frame.ServerFrame)).toBe(text)
    expect(Frame.decodeServerFrame(JSON.stringify(reverse(frame)))).toStrictEqual(frame)
  })

  it.each(server)("$name decodes without its unknown fields", ({ frame }) => {
    expect(Frame.decodeServerFrame(JSON.stringify(extend({ ...frame })))).toStrictEqual(frame)
  })

  it("events that are already text encode to the same bytes", () => {
    const batches = server.flatMap(({ frame, text }) =>
      frame.type === "events"
        ? [
            {
              text,
              direct: FrameText.encodeEvents(
                frame.channel,
                frame.cursor ?? "",
                frame.events.map(({ at, data, id, tx }) =>
                  FrameText.encodeEvent(id, at, JSON.stringify(data), tx)
                ),
                frame.view
              )
            }
          ]
        : []
    )
    expect(batches.map(({ direct }) => direct)).toEqual(batches.map(({ text }) => text))
    expect(batches).toHaveLength(4)
  })

  it("a state whose rows are already text encodes to the same bytes", () => {
    const states = server.flatMap(({ frame, text }) =>
      frame.type === "state" && frame.id === undefined ? [{ frame, text }] : []
    )
    const direct = states.map(({ frame: { channel, cursor, invalid = [], more, rows, view } }) => {
      const texts = (list: ReadonlyArray<unknown>) => list.map((one) => JSON.stringify(one))
      return FrameText.encodeState(channel, view, cursor, texts(rows), texts(invalid), more)
    })
    expect(direct).toEqual(states.map(({ text }) => text))
    expect(direct.length).toBeGreaterThan(0)
  })

  it("a page of history whose events are already text encodes to the same bytes", () => {
    const pages = server.flatMap(({ frame, text }) =>
      frame.type === "history"
        ? [
            {
              text,
              direct: FrameText.encodeHistory(
                frame.id,
                frame.channel,
                frame.events.map(({ at, data, id, tx }) =>
                  FrameText.encodeEvent(id, at, JSON.stringify(data), tx)
                ),
                frame.more
              )
            }
          ]
        : []
    )
    expect(pages.map(({ direct }) => direct)).toEqual(pages.map(({ text }) => text))
    expect(pages).toHaveLength(1)
  })

  it("several frames fit into one message, separated by line feeds", () => {
    const message = server.map(({ text }) => text).join("\n")
    expect(Frame.decodeServerMessage(message)).toStrictEqual(server.map(({ frame }) => frame))
  })

  it("an invalid frame does not affect the other frames of its message", () => {
    const message = ["", `{"type":"ping"}`, "{", `{"type":"later"}`, `{"type":"ping"}`, ""].join(
      "\n"
    )
    expect(Frame.decodeServerMessage(message)).toStrictEqual([{ type: "ping" }, { type: "ping" }])
  })

  it("no frame contains a raw line feed, even when its texts do", () => {
    const text = "a\nb\r\nc\u2028"
    const frame = {
      type: "ended",
      channel: "a",
      code: text,
      message: text,
      retry: "never"
    } as const
    expect(Frame.encode(frame)).not.toContain("\n")
    expect(Frame.decodeServerMessage(Frame.encode(frame))).toStrictEqual([frame])
  })
})

describe("what a server rejects", () => {
  it.each([
    { title: "an empty message", text: "", fault: "frame/malformed undefined: not JSON" },
    { title: "no JSON", text: "hello", fault: "frame/malformed undefined: not JSON" },
    {
      title: "JSON that is cut off",
      text: `{"type":"subscribe","id":1`,
      fault: "frame/malformed undefined: not JSON"
    },
    {
      title: "two frames in one message",
      text: `{"type":"pong"}\n{"type":"pong"}`,
      fault: "frame/malformed undefined: not JSON"
    },
    {
      title: "an array",
      text: `[{"type":"pong"}]`,
      fault: "frame/malformed undefined: not a JSON object"
    },
    { title: "null", text: "null", fault: "frame/malformed undefined: not a JSON object" },
    { title: "a string", text: `"pong"`, fault: "frame/malformed undefined: not a JSON object" },
    { title: "a number", text: "1", fault: "frame/malformed undefined: not a JSON object" },
    { title: "no type", text: `{"id":1}`, fault: "frame/malformed 1: no type" },
    {
      title: "a type that is no text",
      text: `{"id":1,"type":7}`,
      fault: "frame/malformed 1: no type"
    },
    {
      title: "an unknown type",
      text: `{"type":"later","id":9}`,
      fault: "frame/unknown 9: a frame type that is not known"
    },
    {
      title: "an unknown type without an id",
      text: `{"type":"later"}`,
      fault: "frame/unknown undefined: a frame type that is not known"
    },
    {
      title: "a frame of a server",
      text: `{"type":"status","source":"up"}`,
      fault: "frame/unknown undefined: a frame type that is not known"
    },
    {
      title: "a type that every object has",
      text: `{"type":"toString","id":1}`,
      fault: "frame/unknown 1: a frame type that is not known"
    },
    {
      title: "a channel that is no text",
      text: `{"type":"subscribe","id":1,"channel":["a"]}`,
      fault: "frame/malformed 1: not a valid subscribe frame"
    },
    {
      title: "a cursor that is null",
      text: `{"type":"subscribe","id":1,"channel":"a","cursor":null}`,
      fault: "frame/malformed 1: not a valid subscribe frame"
    },
    {
      title: "a publish without data",
      text: `{"type":"publish","id":1,"channel":"a","key":"k"}`,
      fault: "frame/malformed 1: not a valid publish frame"
    },
    {
      title: "an authenticate without a token",
      text: `{"type":"authenticate","id":1}`,
      fault: "frame/malformed 1: not a valid authenticate frame"
    },
    {
      title: "a hello whose version is text",
      text: `{"type":"hello","version":"1"}`,
      fault: "frame/malformed undefined: not a valid hello frame"
    },
    {
      title: "a hello whose client has no version",
      text: `{"type":"hello","version":1,"client":{"name":"n"}}`,
      fault: "frame/malformed undefined: not a valid hello frame"
    }
  ])("$title", ({ fault, text }) => {
    expect(receive(text)).toBe(fault)
  })

  it("reports code and reason in one line", () => {
    expect(new Frame.FrameFault({ code: "frame/unknown", id: 1, reason: "why" }).message).toBe(
      "frame/unknown: why"
    )
  })

  it("decodes a hello of another version, so that the server can close with 4201", () => {
    expect(receive(`{"type":"hello","version":2}`)).toEqual({ type: "hello", version: 2 })
  })
})

describe("an id", () => {
  it.each(["0", "1", "9007199254740991", "1.0", "1e3"])("%s is valid", (id) => {
    expect(withId(id)).toEqual({ type: "unsubscribe", id: Number(id), channel: "a" })
  })

  it.each(["-1", "1.5", "9007199254740992", "1e999", `"1"`, "null", "true", "[1]", "{}"])(
    "%s is not valid",
    (id) => {
      expect(withId(id)).toBe("frame/malformed undefined: not a valid unsubscribe frame")
    }
  )
})

describe("the key of a publish", () => {
  it.each([1, 64])("may have %i characters", (length) => {
    const key = "k".repeat(length)
    expect(withKey(key)).toEqual({ type: "publish", id: 3, channel: "a", key, data: 0 })
  })

  it.each([0, 65])("may not have %i characters", (length) => {
    expect(withKey("k".repeat(length))).toBe("frame/malformed 3: not a valid publish frame")
  })
})

describe("a key that could reach a prototype", () => {
  const places = [
    { place: "in the frame", wrap: (pair: string) => `{"type":"pong","id":5,${pair}}` },
    {
      place: "before the id",
      wrap: (pair: string) => `{${pair},"type":"unsubscribe","id":5,"channel":"a"}`
    },
    {
      place: "in an unknown field",
      wrap: (pair: string) => `{"type":"pong","id":5,"extra":{${pair}}}`
    },
    {
      place: "in the payload",
      wrap: (pair: string) =>
        `{"type":"publish","id":5,"channel":"a","key":"k","data":{"a":[{"b":{${pair}}}]}}`
    },
    {
      place: "in a frame whose type is unknown",
      wrap: (pair: string) => `{"type":"later","id":5,"data":{${pair}}}`
    }
  ]
  const spellings = [
    { key: "__proto__", written: "__proto__" },
    { key: "__proto__", written: "\\u005f_proto\\u005f_" },
    { key: "constructor", written: "constructor" },
    { key: "constructor", written: "\\u0063onstructor" },
    { key: "prototype", written: "prototype" },
    { key: "prototype", written: "prototyp\\u0065" }
  ]
  const cases = places.flatMap(({ place, wrap }) =>
    spellings.map(({ key, written }) => ({
      place,
      key,
      written,
      text: wrap(`"${written}":{"x":1}`)
    }))
  )

  it.each(cases)("is rejected $place, written $written, with the frame's id", ({ key, text }) => {
    expect(receive(text)).toBe(`frame/malformed 5: the key ${key} is not allowed`)
    expect(Object.hasOwn(Object.prototype, "x")).toBe(false)
  })

  it("is accepted as a value, and a similar key is accepted too", () => {
    const data = { proto: "__proto__", Constructor: ["constructor"], prototypes: "prototype" }
    expect(
      receive(JSON.stringify({ type: "publish", id: 5, channel: "a", key: "constructor", data }))
    ).toEqual({ type: "publish", id: 5, channel: "a", key: "constructor", data })
  })
})

describe("the depth of a frame", () => {
  const tooDeep = "frame/malformed: nested deeper than 64 levels (6)"

  it("may be 64 levels, counting the frame itself", () => {
    expect([nested(63), nested(64)].map((data) => withData(data))).toEqual(["publish", tooDeep])
  })

  it("counts objects like arrays", () => {
    expect([nestedObjects(63), nestedObjects(64)].map((data) => withData(data))).toEqual([
      "publish",
      tooDeep
    ])
  })

  it("counts the levels of an unknown field too", () => {
    expect(receive(`{"type":"pong","id":6,"extra":${nested(64)}}`)).toBe(
      "frame/malformed 6: nested deeper than 64 levels"
    )
  })

  it("has the limit that you pass as maxDepth", () => {
    expect(withData("[[]]", { maxDepth: 2 })).toBe(
      "frame/malformed: nested deeper than 2 levels (6)"
    )
    expect(withData("[]", { maxDepth: 2 })).toBe("publish")
  })

  it("does not overflow the stack with 20,000 nested arrays", () => {
    expect(withData(nested(20_000))).toBe(tooDeep)
  })
})

describe("what a client ignores", () => {
  const events = (event: string) =>
    `{"type":"events","channel":"a","cursor":"e:1","events":[{"id":"e:1","at":"${at}","data":1},${event}]}`

  it.each([
    { title: "an empty line", text: "" },
    { title: "no JSON", text: "hello" },
    { title: "null", text: "null" },
    { title: "an array", text: `[{"type":"ping"}]` },
    { title: "no type", text: "{}" },
    { title: "a type that is no text", text: `{"type":["ping"]}` },
    { title: "an unknown type", text: `{"type":"later"}` },
    { title: "a type that every object has", text: `{"type":"constructor"}` },
    { title: "a frame of a client", text: `{"type":"unsubscribe","id":1,"channel":"a"}` },
    { title: "a negative id", text: `{"type":"published","id":-1}` },
    { title: "an id beyond 2^53-1", text: `{"type":"published","id":9007199254740992}` },
    { title: "a fractional delay", text: `{"type":"bye","reconnectAfter":1.5}` },
    { title: "an unknown state of the source", text: `{"type":"status","source":"sideways"}` },
    {
      title: "an unknown state of a subscription",
      text: `{"type":"subscribed","id":1,"channel":"a","state":"odd","cursor":"e:0"}`
    },
    {
      title: "a gap whose reason is no word",
      text: `{"type":"gap","channel":"a","reason":7,"cursor":"e:0"}`
    },
    {
      title: "an unknown retry",
      text: `{"type":"error","code":"c","message":"m","retry":"soon"}`
    },
    {
      title: "a welcome without limits",
      text: `{"type":"welcome","version":1,"session":"s","ping":1,"slack":1}`
    },
    {
      title: "events that are no array",
      text: `{"type":"events","channel":"a","cursor":"e:1","events":{}}`
    },
    { title: "a batch with an event without an id", text: events(`{"at":"${at}","data":1}`) },
    { title: "a batch with an event without data", text: events(`{"id":"e:2","at":"${at}"}`) },
    { title: "a batch with an event that is null", text: events("null") },
    {
      title: "a batch with an event whose transaction is a number",
      text: events(`{"id":"e:2","at":"${at}","data":1,"tx":7}`)
    }
  ])("$title", ({ text }) => {
    expect([Frame.decodeServerFrame(text), Frame.decodeServerMessage(text)]).toEqual([
      undefined,
      []
    ])
  })

  it("does not include a gap with an unknown reason", () => {
    const text = `{"type":"gap","channel":"a","reason":"mood","cursor":"e:0"}`
    expect(Frame.decodeServerFrame(text)).toEqual(JSON.parse(text))
  })

  it("does not include a deeply nested payload or one with __proto__, which the channel checks", () => {
    const data = `{"a":${nested(20_000)},"__proto__":1}`
    const [frame] = Frame.decodeServerMessage(events(`{"id":"e:2","at":"${at}","data":${data}}`))
    expect(frame).toMatchObject({ type: "events", cursor: "e:1" })
  })
})
