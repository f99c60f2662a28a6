/** What to run where a watched table lost its triggers, or is gone: with the options that it is watched with. */
import * as Effect from "effect/Effect"
import type { SqlClient } from "effect/sql/SqlClient"
import { maxPayloadBytes } from "../../../server/internal/sql/schema.ts"
import { objects } from "../../../server/internal/sql/objects.ts"
import { usual } from "../../../server/internal/sql/schemaName.ts"

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

const quoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`

/** Flags cannot say a route or a filter: a definition does. */
const needsDefinition = ({ definition }: Watch): boolean =>
  [definition.by, definition.filter, definition.boundary].some(
    (one) => one !== undefined && one !== null && String(one) !== ""
  )

/** 0 for none, and the defaults of both deliveries. */
const usualBytes: ReadonlySet<number> = new Set([0, maxPayloadBytes, 7967])

const flagsOf = ({ channel, definition, rel }: Watch): string =>
  [
    definition.delivery === "durable" ? "--watch-durable" : "--watch",
    quoted(`${rel.replaceAll('"', "")}=${channel}`),
    ...(definition.columns ? ["--columns", quoted(definition.columns.join(","))] : []),
    ...(definition.old ? ["--old"] : []),
    ...(["insert", "update", "delete"] as const).flatMap((operation) => {
      const condition = definition[operation]
      return condition ? [`--when-${operation}`, quoted(condition)] : []
    }),
    ...(usualBytes.has(definition.max_bytes ?? 0)
      ? []
      : ["--max-bytes", String(definition.max_bytes)]),
    ...(definition.level === "statement" ? ["--level", "statement"] : []),
    ...(definition.always ? ["--always"] : [])
  ].join(" ")

/** Reads how tables are watched; the result says how to watch one again. */
export const watchCures = Effect.fnUntraced(function* (sql: SqlClient, schema: string) {
  const client = yield* objects(sql)
  const rows = yield* client.unsafe<Watch>(
    "select name as rel, channel, definition from realtime.watched order by id"
  )
  const again = (channel: string): string => {
    const watch = rows.find((row) => row.channel === channel)
    return watch === undefined || needsDefinition(watch)
      ? `npx effect-realtime sql${ofSchema(schema)} --definitions <your module of channels> --apply`
      : `npx effect-realtime sql${ofSchema(schema)} ${flagsOf(watch)} --apply`
  }
  return {
    again,
    of: (channel: string, rel: string, trouble: string): string => {
      if (trouble === "the table is gone") {
        return `Create it and watch it again, or stop watching it: npx effect-realtime sql${ofSchema(schema)} --unwatch ${quoted(`${rel.replaceAll('"', "")}=${channel}`)} --apply`
      }
      return channel === ""
        ? `Drop that trigger, or watch the table: npx effect-realtime sql${ofSchema(schema)} --watch-durable ${quoted(rel)} --apply`
        : `Mend it, and watch the table again as its owner: ${again(channel)}`
    }
  }
})
