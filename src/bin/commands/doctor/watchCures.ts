/** What to run where a watched table lost its triggers, or is gone: with the options that it is watched with. */
import * as Effect from "effect/Effect"
import type { SqlClient } from "effect/sql/SqlClient"
import { objects } from "../../../server/internal/sql/objects.ts"
import { maxPayloadBytes } from "../../../server/internal/sql/schema.ts"
import { usual } from "../../../server/internal/sql/schemaName.ts"
import { maxLiveBytes } from "../../../server/internal/sql/triggers.ts"
import { shellWord } from "../../shared/shell.ts"

/** The flag for a schema of another name. */
export const ofSchema = (schema: string) => (schema === usual ? "" : ` --schema ${schema}`)

interface Watch {
  readonly rel: string
  readonly channel: string
  readonly definition: {
    readonly columns?: ReadonlyArray<string> | null
    readonly old?: boolean | null
    readonly max_bytes?: number | null
    readonly level?: string | null
    readonly delivery: string
    readonly insert?: string | null
    readonly update?: string | null
    readonly delete?: string | null
    readonly always?: boolean | null
    readonly by?: unknown
    readonly filter?: unknown
    readonly boundary?: unknown
  }
}

/** Flags cannot say a route, a filter, or a column with a comma: a definition does. */
const needsDefinition = ({ definition }: Watch): boolean =>
  definition.columns?.some((column) => column.includes(",")) === true ||
  [definition.by, definition.filter, definition.boundary].some(
    (one) => one !== undefined && one !== null && String(one) !== ""
  )

/** The bound of a row without `--max-bytes`, by delivery. */
const usualBytes = (delivery: string): number =>
  delivery === "durable" ? maxPayloadBytes : maxLiveBytes

const flagsOf = ({ channel, definition, rel }: Watch, isShared: boolean): string => {
  const { always, columns, delivery, level, max_bytes: bytes, old } = definition
  return [
    delivery === "durable" ? "--watch-durable" : "--watch",
    shellWord(`${rel}=${channel}`),
    ...(columns ? ["--columns", shellWord(columns.join(","))] : []),
    ...(old ? ["--old"] : []),
    ...(["insert", "update", "delete"] as const).flatMap((operation) => {
      const condition = definition[operation]
      return condition ? [`--when-${operation}`, shellWord(condition)] : []
    }),
    ...(typeof bytes === "number" && bytes !== usualBytes(delivery)
      ? ["--max-bytes", String(bytes)]
      : []),
    ...(level === "statement" ? ["--level", "statement"] : []),
    ...(always ? ["--always"] : []),
    ...(isShared ? ["--shared"] : [])
  ].join(" ")
}

/** Reads how tables are watched; the result says how to watch one again. */
export const watchCures = Effect.fnUntraced(function* (sql: SqlClient, schema: string) {
  const client = yield* objects(sql)
  const rows = yield* client.unsafe<Watch>(
    "select name as rel, channel, definition from realtime.watched order by id"
  )
  const again = (channel: string, rel: string): string => {
    const of = rows.filter((row) => row.channel === channel)
    const watch = of.find((row) => row.rel === rel)
    return watch === undefined || needsDefinition(watch)
      ? `npx effect-realtime sql${ofSchema(schema)} --definitions <your module of channels> --apply`
      : `npx effect-realtime sql${ofSchema(schema)} ${flagsOf(watch, of.length > 1)} --apply`
  }
  return {
    again,
    of: (channel: string, rel: string, trouble: string): string => {
      if (trouble === "the table is gone") {
        return `Create it and watch it again, or stop watching it: npx effect-realtime sql${ofSchema(schema)} --unwatch ${shellWord(`${rel}=${channel}`)} --apply`
      }
      if (channel !== "") {
        return `Mend it, and watch the table again as its owner: ${again(channel, rel)}`
      }
      const watch = rows.find((row) => row.rel === rel)
      return watch === undefined
        ? `Drop that trigger, or watch the table: npx effect-realtime sql${ofSchema(schema)} --watch-durable ${shellWord(rel)} --apply`
        : `Drop that trigger, or watch the table again: ${again(watch.channel, rel)}`
    }
  }
})
