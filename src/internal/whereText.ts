/**
 * A filter as the wire has it: each value encoded by its column's Schema, in one spelling, so that equal
 * filters are equal texts.
 */
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type { EncodeWhere } from "../ChannelBase.ts"
import type { Scalar, Where } from "../Frame.ts"
import { InvalidWhere } from "../RealtimeError.ts"
import { errorText } from "./errorText.ts"
import { once } from "./payloadCodec.ts"

const isScalar = (value: unknown): value is Scalar =>
  ["string", "number", "boolean"].includes(typeof value)

/** By text; a value has one text, because one codec wrote it. */
const sorted = (values: ReadonlyArray<Scalar>): ReadonlyArray<Scalar> =>
  [...new Map(values.map((value) => [String(value), value]))]
    .toSorted(([one], [other]) => (one < other ? -1 : 1))
    .map(([, value]) => value)

/** What encodes the values of a column in a filter; it throws why it cannot. */
const encoding = (field: Schema.Codec<unknown, unknown>) => {
  const encode = Schema.encodeUnknownSync(Schema.toCodecJson(field))
  return (value: unknown): Where[string] => {
    if (value === undefined) throw new Error("is undefined: leave the column out instead")
    const encoded = Array.isArray(value) ? value.map((one) => encode(one)) : encode(value)
    if (encoded === null || isScalar(encoded)) return encoded
    if (!Array.isArray(encoded) || !encoded.every(isScalar)) {
      throw new Error("is not a text, a number, a boolean, a list of these, or null alone")
    }
    const list = sorted(encoded)
    return list.length === 1 ? list[0]! : list
  }
}

const inOrder = ([one]: readonly [string, unknown], [other]: readonly [string, unknown]) =>
  one < other ? -1 : 1

/** Encodes a filter on the columns of a list; `undefined` for one without columns. */
export const make = (fields: Schema.Struct.Fields, columns: ReadonlyArray<string>): EncodeWhere => {
  const encoders = once(
    () =>
      new Map(
        columns.map((column) => [
          column,
          encoding(fields[column] as Schema.Codec<unknown, unknown>)
        ])
      )
  )
  return (channel, given = {}) => {
    const where: Record<string, Where[string]> = {}
    for (const [column, value] of Object.entries(given).toSorted(inOrder)) {
      const invalid = (issue: string) => Result.fail(new InvalidWhere({ channel, column, issue }))
      const encode = encoders().get(column)
      if (encode === undefined) return invalid("is no column by which the definition filters")
      try {
        where[column] = encode(value)
      } catch (error) {
        return invalid(errorText(error))
      }
    }
    return Result.succeed(Object.keys(where).length === 0 ? undefined : where)
  }
}
