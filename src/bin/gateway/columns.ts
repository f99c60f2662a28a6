/**
 * Which values a column can have. A client chooses nothing of its token, but its issuer may: a claim that no
 * row can equal matches none, and is no error.
 */

/** The type of a column: its number in PostgreSQL, and the values of an enum. */
export interface ColumnType {
  readonly type: number
  readonly labels: ReadonlyArray<string>
}

const int2 = 21
const int4 = 23
const int8 = 20
const bits: Readonly<Record<number, bigint>> = { [int2]: 15n, [int4]: 31n, [int8]: 63n }

const within = (text: string, bits: bigint): boolean => {
  if (!/^(?:0|-?[1-9]\d{0,18})$/.test(text)) return false
  const value = BigInt(text)
  return value >= -(2n ** bits) && value < 2n ** bits
}

const isDate = (text: string): boolean => {
  if (!/^\d{4}-\d\d-\d\d$/.test(text) || text < "0001") return false
  const date = new Date(`${text}T00:00:00Z`)
  return !Number.isNaN(date.getTime()) && date.toISOString().startsWith(text)
}

const forms: Readonly<Record<number, (text: string) => boolean>> = {
  16: (text) => text === "true" || text === "false",
  1082: isDate,
  2950: (text) => /^[\da-f]{8}(?:-[\da-f]{4}){3}-[\da-f]{12}$/.test(text)
}

/** Whether PostgreSQL writes a value of the column so. */
export const fits = ({ labels, type }: ColumnType, value: unknown): boolean => {
  const text = String(value)
  if (labels.length > 0) return labels.includes(text)
  const width = bits[type]
  if (width !== undefined) return within(text, width)
  return forms[type]?.(text) ?? !text.includes("\u0000")
}
