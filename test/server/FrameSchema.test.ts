/**
 * The frames are stated twice: by hand (`Frame`, for browsers) and as Schemas (`FrameSchema`). Both
 * must decide the same about every JSON text, however it was changed on its way.
 *
 * One difference is meant: the decoder of a server also rejects keys that could reach a prototype
 * and too much depth, before the shape, because it reads frames of strangers. `guarded` says when.
 *
 * A failure prints the input in its smallest form and a `Replay` that names the seed.
 */
import { describe, expect, it } from "@effect/vitest"
import { Arbitrary, Effect, Result, Schema } from "effect"
import * as Channel from "../../src/Channel.ts"
import {
  type ClientFrame,
  decodeClientFrame,
  decodeServerFrame,
  type ServerFrame
} from "../../src/Frame.ts"
import { joinStates, maxDepth, retries, sourceStates } from "../../src/Protocol.ts"
import { gapReasons } from "../../src/RealtimeEvent.ts"
import * as JsonNames from "../../src/internal/jsonNames.ts"
import * as FrameSchema from "../../src/server/FrameSchema.ts"

const runs = 3000
const seed = 20_261_122

/** The result of decoding a text: a frame, or `refused`. */
const refused = "refused"
const orRefused = Result.getOrElse(() => refused)

const clientBySchema = Schema.decodeUnknownResult(FrameSchema.ClientFrame)
const serverBySchema = Schema.decodeUnknownResult(FrameSchema.ServerFrame)

const client = {
  frame: FrameSchema.ClientFrame,
  byHand: (text: string): unknown => orRefused(decodeClientFrame(text)),
  // The engine alone misreads names with an escape after it has seen a backslash in one.
  bySchema: (text: string): unknown => orRefused(clientBySchema(JsonNames.parseJson(text)))
}
const server = {
  frame: FrameSchema.ServerFrame,
  byHand: (text: string): unknown => decodeServerFrame(text) ?? refused,
  bySchema: (text: string): unknown => orRefused(serverBySchema(JSON.parse(text)))
}

/** Whether the server's decoder rejects a value before it looks at the shape. */
const guarded = (value: unknown, depth = 1): boolean =>
  typeof value === "object" &&
  value !== null &&
  (depth > maxDepth ||
    Object.entries(value).some(
      ([key, item]) =>
        (!Array.isArray(value) && ["__proto__", "constructor", "prototype"].includes(key)) ||
        key.includes("\\") ||
        guarded(item, depth + 1)
    ))

// -----------------------------------------------------------------------------------------------
// mutation

type Json = null | boolean | number | string | Array<Json> | { [key: string]: Json }

const values: ReadonlyArray<Json> = [
  null,
  true,
  0,
  -1,
  1.5,
  2 ** 53 - 1,
  2 ** 53,
  "",
  "1",
  "x".repeat(64),
  "x".repeat(65),
  "a\u0000b",
  "half of \ud83d",
  "\ude00 the other",
  "\ud83d\ude00 whole",
  "x".repeat(100_000),
  [],
  [null],
  {},
  { name: "n", version: "v" },
  { a: ["x", 1, false], b: null },
  { id: "1", at: "now", data: 0, extra: 0 }
]
const typesIn = ({ frame }: typeof client | typeof server) =>
  frame.members.map(({ fields }) => fields.type.literal)
const types = [...typesIn(client), ...typesIn(server)]
const fields = [
  "token",
  "where",
  "state",
  "view",
  "now",
  "cursor",
  "expires",
  "retryAfter",
  "id",
  "tx",
  "data",
  "client",
  "extra"
]

/** All literals that a frame may hold, and one that no frame may hold. */
const words = [...joinStates, ...gapReasons, ...retries, ...sourceStates, "sideways"]

/** One frame of each type, with every field it may have. */
const wholeClientFrames: ReadonlyArray<ClientFrame> = [
  { type: "hello", version: 1, token: "t", client: { name: "n", version: "v" } },
  {
    type: "subscribe",
    id: 1,
    channel: "a",
    cursor: "e:1",
    state: true,
    where: { a: "x", b: [1, true], c: null }
  },
  { type: "state", id: 1, channel: "a", view: "v" },
  { type: "history", id: 1, channel: "a", before: "1", limit: 50 },
  { type: "unsubscribe", id: 1, channel: "a", view: "v" },
  { type: "publish", id: 1, channel: "a", within: 1, key: "k", data: { a: [1] } },
  { type: "present", id: 1, channel: "a", member: { a: [1] } },
  { type: "absent", id: 1, channel: "a" },
  { type: "authenticate", id: 1, token: "t" },
  { type: "ping" },
  { type: "pong" }
]
const wholeServerFrames: ReadonlyArray<ServerFrame> = [
  {
    type: "welcome",
    version: 1,
    session: "s",
    ping: 1,
    slack: 1,
    expires: 1,
    limits: { subscriptions: 1, frameBytes: 1, publishPerSecond: 1, volatilePerSecond: 1 }
  },
  { type: "subscribed", id: 1, channel: "a", state: "fresh", cursor: "e:1", view: "v" },
  { type: "unsubscribed", id: 1, channel: "a" },
  { type: "published", id: 1 },
  {
    type: "history",
    id: 1,
    channel: "a",
    events: [{ id: "1", at: "now", data: {}, tx: "7" }],
    more: true
  },
  { type: "authenticated", id: 1, expires: 1 },
  {
    type: "events",
    channel: "a",
    view: "v",
    cursor: "e:2",
    events: [
      { id: "e:1", at: "now", data: [0] },
      { id: "e:2", at: "now", data: {}, tx: "7" }
    ]
  },
  {
    type: "state",
    channel: "a",
    view: "v",
    id: 1,
    cursor: "e:1",
    rows: [{ a: 1 }],
    invalid: [{ a: 2 }],
    more: true
  },
  { type: "cursor", channel: "a", view: "v", cursor: "e:1" },
  { type: "present", id: 1, member: "m" },
  { type: "absent", id: 1 },
  { type: "members", channel: "a", count: 1, set: { m: {} }, gone: ["n"], whole: true },
  {
    type: "gap",
    channel: "a",
    view: "v",
    reason: "source",
    cursor: "e:1",
    now: "w",
    change: { id: "1", tx: "7", operation: "UPDATE", key: { id: 1 } }
  },
  { type: "ended", channel: "a", view: "v", code: "c", message: "m", retry: "never" },
  { type: "error", id: 1, code: "c", message: "m", retry: "never", retryAfter: 1 },
  { type: "status", source: "up" },
  { type: "ping" },
  { type: "pong" },
  { type: "bye", reconnectAfter: 1 }
]

/** Numbers that choose the place (from the frame inwards), the change, and the value. */
const Step = Schema.Struct({
  where: Schema.Natural,
  what: Schema.Literals(["replace", "remove", "add", "retype"]),
  value: Schema.Natural
})
const Steps = Schema.NonEmptyArray(Step).check(Schema.isMaxLength(3))

const pick = <A>(list: ReadonlyArray<A>, index: number): A => list[index % list.length]!

/** Every object and array in a frame, the frame first. */
const containers = (value: Json): ReadonlyArray<Array<Json> | { [key: string]: Json }> =>
  typeof value === "object" && value !== null
    ? [value, ...Object.values(value).flatMap(containers)]
    : []

/** Sets a key as `JSON.parse` does: `__proto__` too is a key of its own. */
const set = (target: object, key: string, value: Json) =>
  Object.defineProperty(target, key, {
    value,
    configurable: true,
    enumerable: true,
    writable: true
  })

const mutate = (frame: unknown, steps: typeof Steps.Type): string => {
  const copy: Json = JSON.parse(JSON.stringify(frame))
  for (const { value, what, where } of steps) {
    const target = pick(containers(copy), where)
    const keys = Object.keys(target)
    // Different numbers must choose the container and the key, or some pairs never meet.
    const key = pick(keys, value + where)
    const replacement = structuredClone(pick(values, value))
    if (what === "retype") set(copy as object, "type", pick(types, value))
    else if (Array.isArray(target)) {
      if (what === "remove") target.splice(value % (target.length + 1), 1)
      else target.push(replacement)
    } else if (what === "add") set(target, pick(fields, where), replacement)
    else if (key !== undefined && what === "remove") delete target[key]
    else if (key !== undefined) set(target, key, replacement)
  }
  return JSON.stringify(copy)
}

/** A frame, the frame without each of its fields, and with each value in each of its fields. */
const everyChange = (frame: ClientFrame | ServerFrame): ReadonlyArray<string> => {
  const text = JSON.stringify(frame)
  const count = containers(JSON.parse(text)).length
  const texts = [text]
  for (let where = 0; where < count; where++) {
    const copy: Json = JSON.parse(text)
    const target = containers(copy)[where]!
    for (const [key, before] of Object.entries(target)) {
      for (const value of [...values, ...words, ...types]) {
        set(target, key, value)
        texts.push(JSON.stringify(copy))
      }
      Reflect.deleteProperty(target, key)
      texts.push(JSON.stringify(copy))
      set(target, key, before)
    }
  }
  return texts
}

const mutated = (side: typeof client | typeof server) =>
  Arbitrary.map(
    Arbitrary.all({
      frame: Arbitrary.schema<Schema.Top>(side.frame),
      steps: Arbitrary.schema(Steps)
    }),
    ({ frame, steps }) => mutate(frame, steps)
  )

// -----------------------------------------------------------------------------------------------

describe(`FrameSchema (seed ${seed})`, () => {
  const options = { arbitrary: { runs, seed } }

  it.effect.prop(
    "the hand-written decoder and the Schema agree on every valid frame of a client",
    { frame: FrameSchema.ClientFrame },
    ({ frame }) =>
      Effect.sync(() => {
        const text = JSON.stringify(frame)
        const value = JsonNames.parseJson(text)
        expect(client.bySchema(text)).toStrictEqual(value)
        expect(client.byHand(text)).toStrictEqual(guarded(frame) ? refused : value)
      }),
    options
  )

  it.effect.prop(
    "the hand-written decoder and the Schema agree on every valid frame of a server",
    { frame: FrameSchema.ServerFrame },
    ({ frame }) =>
      Effect.sync(() => {
        const text = JSON.stringify(frame)
        expect(server.bySchema(text)).toStrictEqual(JSON.parse(text))
        expect(server.byHand(text)).toStrictEqual(JSON.parse(text))
      }),
    options
  )

  it.effect.prop(
    "the hand-written decoder and the Schema accept or reject the same changed frames of a client",
    { text: mutated(client) },
    ({ text }) =>
      Effect.sync(() => {
        expect(client.byHand(text)).toStrictEqual(
          guarded(JsonNames.parseJson(text)) ? refused : client.bySchema(text)
        )
      }),
    options
  )

  it.effect.prop(
    "the hand-written decoder and the Schema accept or reject the same changed frames of a server",
    { text: mutated(server) },
    ({ text }) =>
      Effect.sync(() => expect(server.byHand(text)).toStrictEqual(server.bySchema(text))),
    options
  )

  it.effect.each([
    { title: "a client", side: client },
    { title: "a server", side: server }
  ])("changed frames of $title of every type are accepted and rejected", (each) =>
    Effect.gen(function* () {
      const { side } = each
      const texts = yield* Arbitrary.sampleEffect(mutated(side), { count: runs, size: 30, seed })
      const typesOf = (list: ReadonlyArray<string>) =>
        new Set(list.map((text) => JSON.parse(text).type).filter((type) => types.includes(type)))
      const isAccepted = (text: string) => side.bySchema(text) !== refused
      const accepted = texts.filter(isAccepted)
      const share = accepted.length / runs
      expect(share > 0.1 && share < 0.9, `${share} of them are accepted`).toBe(true)
      expect(typesOf(accepted)).toEqual(new Set(typesIn(side)))
      // A frame without fields cannot be wrong, and both sides have these two.
      expect(typesOf(texts.filter((text) => !isAccepted(text)))).toEqual(
        new Set(types.filter((type) => type !== "ping" && type !== "pong"))
      )
    })
  )

  it.each([
    { title: "a client", side: client, frames: wholeClientFrames },
    { title: "a server", side: server, frames: wholeServerFrames }
  ])("both decoders agree on every value in every field of $title", ({ frames, side }) => {
    expect(frames.map(({ type }) => type).toSorted()).toEqual(typesIn(side).toSorted())
    const texts = frames.flatMap(everyChange)
    expect(texts.map((text) => [text, side.byHand(text)])).toStrictEqual(
      texts.map((text) => [text, side.bySchema(text)])
    )
  })

  it("only a client's frames keep the digits of a number that no double holds", () => {
    const publish = `{"type":"publish","id":1,"channel":"a","key":"k","data":1e999}`
    const events = `{"type":"events","channel":"a","cursor":"e:1","events":[{"id":"e:1","at":"now","data":[1e999]}]}`
    expect(client.byHand(publish)).toMatchObject({ data: "1e999" })
    // A server writes none: its frames are JavaScript's own text.
    expect(server.byHand(events)).toStrictEqual(server.bySchema(events))
    expect(Result.isFailure(Channel.make("a", Schema.Unknown).decode(Infinity))).toBe(true)
  })
})
