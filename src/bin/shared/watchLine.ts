/**
 * A watch of the database as the options of another one, and the line of `sql` that watches so.
 *
 * `watchStatement` has the statement, which also says what no flag can.
 */
import type { Installed } from "../../server/internal/link/tableSchema.ts"
import type { WatchedTable } from "../../server/internal/link/watched.ts"
import { maxPayloadBytes } from "../../server/internal/sql/schema.ts"
import { usual } from "../../server/internal/sql/schemaName.ts"
import { maxLiveBytes } from "../../server/internal/sql/triggers.ts"
import type { Watch } from "../../server/internal/sql/watchStatement.ts"
import { shellWord } from "./shell.ts"

/** The lists of a definition. */
export interface Lists {
  readonly by: ReadonlyArray<string>
  readonly columns: ReadonlyArray<string> | undefined
  readonly filter: ReadonlyArray<string>
  readonly boundary: ReadonlyArray<string>
}

/** All else of a watch, but its channel. */
export type WatchOptions = Omit<Watch, "channel" | "columns" | "table">

/** The bound of a row without `--max-bytes`. */
const usualBytes = { durable: maxPayloadBytes, live: maxLiveBytes } as const

/** What the database keeps of a watch. */
type WatchKept = Omit<Installed, "key">

export const listsOf = ({ boundary, by, columns, filter }: WatchKept): Lists => ({
  by: by ?? [],
  columns: columns ?? undefined,
  filter: filter ?? [],
  boundary: boundary ?? []
})

/** Without the bound of a row where it is the usual one, which the other delivery has not. */
export const optionsOf = (
  { always, insert, level, max_bytes: bytes, old, update, ...rest }: WatchKept,
  delivery: WatchedTable["delivery"],
  shared: boolean
): WatchOptions => ({
  old: old ?? false,
  when: {
    insert: insert ?? undefined,
    update: update ?? undefined,
    delete: rest.delete ?? undefined
  },
  maxBytes: bytes === usualBytes[delivery] ? undefined : (bytes ?? undefined),
  level: level ?? "row",
  delivery,
  always: always ?? false,
  shared
})

/** The flag for a schema of another name. */
export const ofSchema = (schema: string): string => (schema === usual ? "" : ` --schema ${schema}`)

/** The line for a table as flags name it; `undefined` where no flag can say one of its lists. */
export const watchLine = (
  table: string,
  channel: string,
  { boundary, by, columns, filter }: Lists,
  { always, delivery, level, maxBytes, old, shared, when }: WatchOptions,
  schema: string
): string | undefined => {
  if (by.length + filter.length + boundary.length > 0) return undefined
  if (columns?.some((column) => column.includes(",")) === true) return undefined
  const flag = delivery === "durable" ? "--watch-durable" : "--watch"
  return [
    `npx effect-realtime sql${ofSchema(schema)} ${flag} ${shellWord(`${table}=${channel}`)}`,
    ...(columns === undefined ? [] : [`--columns ${shellWord(columns.join(","))}`]),
    ...(old === true ? ["--old"] : []),
    ...(["insert", "update", "delete"] as const).flatMap((operation) => {
      const condition = when?.[operation]
      return condition === undefined ? [] : [`--when-${operation} ${shellWord(condition)}`]
    }),
    ...(maxBytes === undefined ? [] : [`--max-bytes ${maxBytes}`]),
    ...(level === "statement" ? ["--level statement"] : []),
    ...(always === true ? ["--always"] : []),
    ...(shared === true ? ["--shared"] : []),
    "--apply"
  ].join(" ")
}
