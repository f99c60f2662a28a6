/**
 * The text of an event of a table as a change of a row: what it says about the row, also if the row does not
 * match its Schema.
 */
import * as Result from "effect/Result"
import { type Table, toJson } from "../../../ChannelBase.ts"
import * as Exact from "../../../internal/exact.ts"
import { refusedNames } from "../../../Protocol.ts"
import type { InvalidChange } from "../../../RealtimeEvent.ts"
import type { Path, Unfit } from "../reading/mismatch.ts"
import { read, rowText } from "../reading/reading.ts"
import { keyOnWire } from "../reading/rowKey.ts"
import { unsendable } from "./invalidMessage.ts"

/** A change of a row as JSON: the payload of the channel of a table. */
export interface RowChange {
  readonly operation: "INSERT" | "UPDATE" | "DELETE"
  readonly data?: unknown
  readonly key?: unknown
  readonly truncated?: unknown
}

const operations: ReadonlySet<unknown> = new Set(["INSERT", "UPDATE", "DELETE"])

export const isKey = (key: unknown): key is object =>
  typeof key === "object" &&
  key !== null &&
  !Object.keys(key).some((name) => refusedNames.has(name))

/** The change that an event describes; `undefined` if it describes none. */
export const changeOf = (text: string): RowChange | undefined => {
  try {
    const json = Exact.parse(text, rowText) as Partial<RowChange> | null
    return operations.has(json?.operation) ? (json as RowChange) : undefined
  } catch {
    return undefined
  }
}

/** Whether a change lacks the row that it is about: its state must be read. */
export const isTruncated = (payload: unknown): boolean => {
  const { operation, truncated } = Object(payload) as Partial<RowChange>
  return truncated === true && operation !== "DELETE"
}

/** The key in a change; `undefined` if a column of it is missing. */
const keyIn = ({ key: columns }: Table, { data, key = data }: RowChange) => {
  if (!isKey(key)) return undefined
  const row = key as Readonly<Record<string, unknown>>
  if (columns.some((column) => row[column] === undefined)) return undefined
  return Object.fromEntries(columns.map((column) => [column, row[column]]))
}

/** A row as clients have it, from a text or from the part of it at a path. */
export const rowJson = (
  { rowCodec }: Table,
  channel: string,
  text: string,
  part: Path = []
): Result.Result<string, Unfit> =>
  Result.flatMap(read(rowCodec, channel, text, rowText, part), (row) => {
    const encode = (value: unknown) => rowCodec.encode(value, channel)
    return Result.mapError(toJson({ name: channel, encode }, row), () => unsendable)
  })

/**
 * What is known of an event that does not match. `undefined` if its row is not known, or if the row matches
 * and only what it was before does not: then the row must not be left out.
 */
export const invalidChange = (
  table: Table | undefined,
  channel: string,
  id: string,
  tx: string | undefined,
  text: string
): InvalidChange | undefined => {
  if (table === undefined || tx === undefined) return undefined
  const change = changeOf(text)
  if (change === undefined || isTruncated(change)) return undefined
  if (change.operation !== "DELETE" && Result.isSuccess(rowJson(table, channel, text, ["data"]))) {
    return undefined
  }
  const key = keyIn(table, change)
  return key && { id, tx, operation: change.operation, key: keyOnWire(table, key) }
}
