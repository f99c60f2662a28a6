/**
 * The key of a row as its `data` has it on the wire: a client finds the row by it. A trigger writes the key
 * as PostgreSQL spells it, and the Schema of the row may spell a column otherwise, such as a time.
 */
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type { Codec, Table } from "../../../ChannelBase.ts"
import { codecOf } from "../../../internal/payloadCodec.ts"

/** One codec for each table: the first use builds it. */
const codecs = new WeakMap<Table, Codec<unknown>>()

const keyCodec = (table: Table): Codec<unknown> => {
  let codec = codecs.get(table)
  if (codec === undefined) {
    const { fields } = table.row as Schema.Struct<Record<string, Schema.Codec<unknown, unknown>>>
    const columns = table.key.map((column) => [column, fields[column]!] as const)
    codec = codecOf(Schema.Struct(Object.fromEntries(columns))) as unknown as Codec<unknown>
    codecs.set(table, codec)
  }
  return codec
}

/** As it is, if it does not match the Schema. */
export const keyOnWire = (table: Table, key: object): object => {
  const codec = keyCodec(table)
  const encoded = Result.flatMap(codec.decode(key, table.channel), (typed) =>
    codec.encode(typed, table.channel)
  )
  return Result.isSuccess(encoded) ? Object(encoded.success) : key
}
