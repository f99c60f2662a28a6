// #region columns
import * as Schema from "effect/Schema"
import * as Channel from "effect-realtime/Channel"
import * as PgType from "effect-realtime/pg-type"

export const Payment = Schema.Struct({
  id: PgType.int8, // a bigint, for 5 and 1311768467463790321
  amount: PgType.numeric, // "10.5", exact
  rate: PgType.float, // the nearest double
  paid_at: PgType.timestamptz,
  meta: PgType.json,
  tags: PgType.array(Schema.String)
})
export const Payments = Channel.tableUpdates("payments", Payment, { delivery: "durable" })
// #endregion

// #region page
const read = Schema.decodeUnknownSync(Schema.toCodecJson(Schema.Array(Payment)))

/** Your own API, which returns the result of `Realtime.snapshot(Realtime.readRows(Payment, ...))`. */
export const fetchPayments = async (url: string) => {
  const { cursor, value } = await fetch(url).then((response) => response.json())
  return { _tag: "Snapshot" as const, cursor: String(cursor), value: read(value) }
}
// #endregion
