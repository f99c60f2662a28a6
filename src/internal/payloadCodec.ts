/** The codec that a Schema gives: payloads from JSON and to it. */
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type { Codec } from "../ChannelBase.ts"
import { InvalidPayload } from "../RealtimeError.ts"
import { errorText } from "./errorText.ts"

/** Builds on first use, so that a definition costs nothing where it is only imported. */
export const once = <T>(build: () => T): (() => T) => {
  let built: T | undefined
  return () => (built ??= build())
}

export const codecOf = <A, I>(schema: Schema.Codec<A, I>): Codec<A> => {
  const json = once((): Schema.Codec<A, Schema.Json> => Schema.toCodecJson(schema))
  const decoder = once(() => Schema.decodeUnknownResult(json(), { errors: "first" }))
  const encoder = once(() => Schema.encodeUnknownResult(json()))
  const invalid = (channel: string, direction: "decode" | "encode", error: unknown) => {
    const issue = errorText(error)
    return new InvalidPayload({ channel, direction, issue })
  }
  /** A function of the schema that throws makes this one payload invalid. */
  const guarded = <In, Out>(
    direction: "decode" | "encode",
    run: (input: In) => Result.Result<Out, unknown>
  ) => {
    return (input: In, channel: string): Result.Result<Out, InvalidPayload> => {
      try {
        return Result.mapError(run(input), (error) => invalid(channel, direction, error))
      } catch (error) {
        return Result.fail(invalid(channel, direction, error))
      }
    }
  }
  return {
    decode: guarded("decode", (input: unknown) => decoder()(input)),
    encode: guarded("encode", (payload: A) => encoder()(payload)),
    schema: json
  }
}
