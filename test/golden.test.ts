/**
 * The wire, byte by byte: `golden.json` has each frame of both directions and its text. The codecs of
 * `Frame` and the Schemas of `FrameSchema` read and write exactly these texts. A change that breaks one
 * of these tests changes the protocol.
 */
import { describe, expect, it } from "@effect/vitest"
import { Result, Schema } from "effect"
import {
  type ClientFrame,
  decodeClientFrame,
  decodeServerFrame,
  encode,
  type ServerFrame
} from "../src/Frame.ts"
import { joinStates, retries, sourceStates } from "../src/Protocol.ts"
import { gapReasons } from "../src/RealtimeEvent.ts"
import * as FrameSchema from "../src/server/FrameSchema.ts"
import { clientFrameFields, serverFrameFields } from "./support/frameFields.ts"
import { type Golden, golden } from "./support/golden.ts"

const sides = [
  {
    side: "client",
    frames: golden.client as ReadonlyArray<Golden<ClientFrame | ServerFrame>>,
    fields: clientFrameFields,
    decode: (text: string) => Result.getOrThrow(decodeClientFrame(text)),
    schema: FrameSchema.ClientFrame
  },
  {
    side: "server",
    frames: golden.server as ReadonlyArray<Golden<ClientFrame | ServerFrame>>,
    fields: serverFrameFields,
    decode: decodeServerFrame,
    schema: FrameSchema.ServerFrame
  }
] as const

describe.each(sides)("the golden frames of a $side", ({ decode, fields, frames, schema }) => {
  const bySchema = {
    decode: Schema.decodeUnknownSync<Schema.Decoder<unknown>>(schema),
    encode: Schema.encodeUnknownSync<Schema.Encoder<unknown>>(schema)
  }

  it.each(frames)("$name: Frame encodes to this text and decodes it", ({ frame, text }) => {
    expect(encode(frame)).toBe(text)
    expect(decode(text)).toStrictEqual(frame)
  })

  it.each(frames)("$name: FrameSchema encodes to this text and decodes it", (one) => {
    expect(JSON.stringify(bySchema.encode(one.frame))).toBe(one.text)
    expect(bySchema.decode(JSON.parse(one.text))).toStrictEqual(one.frame)
  })

  it("cover every type, with and without each optional field", () => {
    const known = fields.flatMap(({ optional, type }) => [
      type,
      ...optional.flatMap((field) => [`${type} with ${field}`, `${type} without ${field}`])
    ])
    const found = frames.flatMap(({ frame }) => [
      frame.type,
      ...fields
        .find(({ type }) => type === frame.type)!
        .optional.map((field) => `${frame.type} ${field in frame ? "with" : "without"} ${field}`)
    ])
    expect([...new Set(found)].toSorted()).toEqual(known.toSorted())
  })
})

it("cover every code, reason and state of the protocol", () => {
  const valuesOf = (name: string) =>
    new Set(
      golden.server.flatMap(({ frame }) => {
        const value = (frame as Readonly<Record<string, unknown>>)[name]
        return typeof value === "string" ? [value] : []
      })
    )
  expect(valuesOf("state")).toEqual(new Set(joinStates))
  expect(valuesOf("source")).toEqual(new Set(sourceStates))
  expect(valuesOf("reason")).toEqual(new Set(gapReasons))
  expect(valuesOf("retry")).toEqual(new Set(retries))
})
