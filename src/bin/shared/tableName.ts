/**
 * A table as flags name it, `[schema.]table[=channel]`, and back.
 *
 * Names are as they are in the database, also in capitals. One with ".", "=" or a quote stands in double
 * quotes, as in SQL.
 */
import { identifier } from "../../server/internal/sql/literal.ts"

const form = /^(?:("(?:[^"]|"")+"|[^".=][^.=]*)\.)?("(?:[^"]|"")+"|[^"=][^=]*)(?:=([^=]*))?$/

interface TableName {
  readonly schema: string | undefined
  readonly name: string
  readonly channel: string | undefined
}

const read = (text: string): string =>
  text.startsWith('"') ? text.slice(1, -1).replaceAll('""', '"') : text

/** The parts of a table as it is named; `undefined` where it has no such form. */
export const tableNamed = (text: string): TableName | undefined => {
  const [, schema, name, channel] = form.exec(text) ?? []
  return name === undefined
    ? undefined
    : { schema: schema === undefined ? undefined : read(schema), name: read(name), channel }
}

const written = (name: string): string => (/[".=]/.test(name) ? identifier(name) : name)

/** The text that names a table. */
export const nameOfTable = (schema: string, name: string): string =>
  `${written(schema)}.${written(name)}`
