/**
 * The text of an event of a table as a change of a row, without its Schema: what it says about the row, also
 * if the row does not match.
 */
import type { Table } from "../../../ChannelBase.ts"
import * as Exact from "../../../internal/exact.ts"
import { refusedNames } from "../../../Protocol.ts"
import type { InvalidChange } from "../../../RealtimeEvent.ts"
import { rowText } from "../reading/reading.ts"
import { keyOnWire } from "../reading/rowKey.ts"

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

/** What is known of an event whose row does not match; `undefined` if its row is not known. */
export const invalidChange = (
  table: Table | undefined,
  id: string,
  tx: string | undefined,
  text: string
): InvalidChange | undefined => {
  if (table === undefined || tx === undefined) return undefined
  const change = changeOf(text)
  if (change === undefined || isTruncated(change)) return undefined
  const key = keyIn(table, change)
  return key && { id, tx, operation: change.operation, key: keyOnWire(table, key) }
}
