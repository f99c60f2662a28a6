/**
 * Which texts a column may have, by the Schema of its table's definition. In: a filter, as the wire has it.
 * Out: the column whose value no row has. The database alone knows the type of a column and how it spells a
 * value.
 */
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as SchemaAST from "effect/SchemaAST"
import type { Table } from "../../ChannelBase.ts"
import type { Where } from "../../Frame.ts"
import * as Exact from "../../internal/exact.ts"
import { make as filterOf } from "./filter.ts"

type ColumnSchema = Schema.Codec<unknown, unknown>

/** What the text of a column may be as JSON: a string, or a number or boolean of the same text. */
export const formsOf = (text: string): ReadonlyArray<unknown> =>
  /^(?:true|false|-?(?:0|[1-9]\d*))$/.test(text) ? [text, Exact.parse(text)] : [text]

/** Whether a column may have a text, or NULL. */
const mayHave = (field: ColumnSchema) => {
  const decode = Schema.decodeUnknownResult(Schema.toCodecJson(field))
  const decodes = (form: unknown): boolean => {
    try {
      return Result.isSuccess(decode(form))
    } catch {
      return false
    }
  }
  return (text: string | null): boolean =>
    text === null
      ? SchemaAST.isOptional(field.ast) || decodes(null)
      : formsOf(text).some((form) => decodes(form))
}

const columns = new WeakMap<Table, Map<string, ReturnType<typeof mayHave>>>()

/** The first column of a filter that has a value which does not match its Schema; `undefined` if none has. */
export const unfitColumn = (table: Table, where: Where): string | undefined => {
  const { fields } = table.row as ColumnSchema & {
    readonly fields: Readonly<Record<string, ColumnSchema>>
  }
  let known = columns.get(table)
  if (known === undefined) columns.set(table, (known = new Map()))
  for (const [column, texts] of filterOf(where)?.columns ?? []) {
    let may = known.get(column)
    if (may === undefined) known.set(column, (may = mayHave(fields[column]!)))
    for (const text of texts) if (!may(text)) return column
  }
  return undefined
}
