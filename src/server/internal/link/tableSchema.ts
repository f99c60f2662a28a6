/**
 * Compares a definition of `Channel.table` with its table: how the table is watched, and whether its
 * columns can match the Schema of a row.
 *
 * Both give sentences for a warning. A column is impossible only if no value of its type has a JSON form
 * that the Schema reads; what a check of the Schema accepts is not known here.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as SchemaAST from "effect/SchemaAST"
import type { SqlClient } from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import type { Table } from "../../../ChannelBase.ts"
import { untraced } from "../tracing.ts"

/** What the database keeps of a watch: its key and columns as they are now, and the options as they were given. */
export interface Installed {
  /** The primary key that the table has now. */
  readonly key: ReadonlyArray<string>
  readonly by?: ReadonlyArray<string> | null
  readonly filter?: ReadonlyArray<string> | null
  readonly boundary?: ReadonlyArray<string> | null
  readonly columns?: ReadonlyArray<string> | null
  readonly old?: boolean
  readonly level?: "row" | "statement"
  readonly max_bytes?: number
  readonly always?: boolean
  readonly insert?: string | null
  readonly update?: string | null
  readonly delete?: string | null
}

/** The columns whose values are beside each event. */
export const keptBy = ({ boundary, by, filter }: Omit<Installed, "key">): ReadonlySet<string> =>
  new Set([...(by ?? []), ...(filter ?? []), ...(boundary ?? [])])

const listed = (names: ReadonlyArray<string>): string => `[${names.join(", ")}]`

/**
 * In which options a watch differs from its definition. A watch that keeps more columns than the definition
 * filters by serves it as well: another program filters by those.
 */
export const differences = (table: Table, installed: Installed): ReadonlyArray<string> => {
  type Option = "boundary" | "by" | "columns" | "filter" | "key"
  const kept = keptBy(installed)
  const differs = (option: Option, order: (names: ReadonlyArray<string>) => unknown) => {
    const [wanted, found] = [table[option] ?? [], installed[option] ?? []]
    return String(order(wanted)) === String(order(found))
      ? []
      : [`${option} is ${listed(found)} there and ${listed(wanted)} in the definition`]
  }
  const sorted = (names: ReadonlyArray<string>) => names.toSorted()
  const lacks = (option: "boundary" | "filter") =>
    table[option].every((column) => kept.has(column)) ? [] : differs(option, sorted)
  return [
    // The order of the values in the name of a route.
    ...differs("by", (names) => names),
    ...lacks("filter"),
    ...lacks("boundary"),
    ...differs("columns", sorted),
    ...differs("key", sorted)
  ]
}

type JsonKind = "string" | "number" | "boolean" | "null" | "array" | "object"

const every: ReadonlyArray<JsonKind> = ["string", "number", "boolean", "null", "array", "object"]

const literal = (value: unknown): JsonKind =>
  value === null ? "null" : (typeof value as "string" | "number" | "boolean")

/** The kinds of JSON that a schema may read. */
const kindsOf = (ast: SchemaAST.AST, met: ReadonlySet<SchemaAST.AST>): ReadonlyArray<JsonKind> => {
  switch (ast._tag) {
    case "String":
    case "TemplateLiteral":
      return ["string"]
    case "Number":
      return ["number"]
    case "Boolean":
      return ["boolean"]
    case "Null":
      return ["null"]
    case "Never":
    case "Undefined":
    case "Void":
      return []
    case "Arrays":
      return ["array"]
    case "Objects":
      return ast.propertySignatures.length + ast.indexSignatures.length === 0 ? every : ["object"]
    case "ObjectKeyword":
      return ["object", "array"]
    case "Literal":
      return [literal(ast.literal)]
    case "Enum":
      return ast.enums.map(([, value]) => literal(value))
    case "Union":
      return ast.types.flatMap((type) =>
        type._tag === "Literal" && /^(?:NaN|-?Infinity)$/.test(String(type.literal))
          ? []
          : kindsOf(type, met)
      )
    case "Suspend":
      return met.has(ast) ? [] : kindsOf(SchemaAST.toEncoded(ast.thunk()), new Set([...met, ast]))
    default:
      return every
  }
}

interface Column {
  readonly name: string
  /** As `format_type` writes it. */
  readonly type: string
  readonly nullable: boolean
  /** The kinds of JSON in which its values travel; absent for any. */
  readonly kinds: ReadonlyArray<JsonKind> | null
}

/** $1 the table. An integer or a number that a double does not hold travels as a string. */
const columnsStatement = `with recursive base(attnum, oid, required) as (
  select a.attnum, a.atttypid, a.attnotnull from pg_attribute a
    where a.attrelid = $1::oid and a.attnum > 0 and not a.attisdropped and a.attgenerated <> 'v'
  union all
  select b.attnum, t.typbasetype, b.required or t.typnotnull from base b join pg_type t on t.oid = b.oid where t.typtype = 'd')
select a.attname as name, format_type(a.atttypid, a.atttypmod) as type, not b.required as nullable,
  case when t.oid in (21, 23) then '["number"]' when t.oid in (20, 700, 701, 1700) then '["number", "string"]'
    when t.oid = 16 then '["boolean"]' when t.typcategory = 'A' then '["array"]' when t.typtype = 'c' then '["object"]'
    when t.typtype in ('e', 'r', 'm') or t.oid < 16384 and t.oid not in (114, 3802) and t.typtype = 'b' then '["string"]' end::json as kinds
from base b join pg_type t on t.oid = b.oid and t.typtype <> 'd' join pg_attribute a on a.attrelid = $1::oid and a.attnum = b.attnum`

/** Which columns cannot match the Schema of the definition. `rel` is the number of the table. */
export const mismatches = (
  client: Pick<SqlClient, "unsafe">,
  { columns, row }: Table,
  rel: number
): Effect.Effect<ReadonlyArray<string>, SqlError> => {
  const ast = SchemaAST.toEncoded(Schema.toCodecJson(row).ast)
  if (!SchemaAST.isObjects(ast)) return Effect.succeed([])
  return Effect.map(untraced(client.unsafe<Column>(columnsStatement, [rel])), (found) => {
    const byName = new Map(found.map((column) => [column.name, column]))
    return ast.propertySignatures.flatMap(({ name, type }) => {
      const column = byName.get(String(name))
      if (column === undefined || columns?.includes(column.name) === false) {
        const why = column === undefined ? "does not exist" : "is not one of those that travel"
        return SchemaAST.isOptional(type) ? [] : [`column "${String(name)}" ${why}`]
      }
      const kinds = [...new Set(kindsOf(SchemaAST.toEncoded(type), new Set()))]
      const faults: Array<string> = []
      if (column.kinds !== null && !column.kinds.some((kind) => kinds.includes(kind))) {
        faults.push(
          `column "${column.name}" is ${column.type}, which travels as ${column.kinds.join(" or ")}, and the Schema reads ${kinds.join(" or ")}`
        )
      }
      if (column.nullable && !kinds.includes("null")) {
        faults.push(`column "${column.name}" may be NULL, which the Schema does not read`)
      }
      return faults
    })
  })
}
