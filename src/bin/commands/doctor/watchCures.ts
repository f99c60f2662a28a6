/** What to run where a watched table lost its triggers, or is gone: with the options that it is watched with. */
import * as Effect from "effect/Effect"
import type { SqlClient } from "effect/sql/SqlClient"
import type { Installed } from "../../../server/internal/link/tableSchema.ts"
import type { WatchedTable } from "../../../server/internal/link/watched.ts"
import { objects } from "../../../server/internal/sql/objects.ts"
import { shellWord } from "../../shared/shell.ts"
import { listsOf, ofSchema, optionsOf, watchLine } from "../../shared/watchLine.ts"

interface Watch extends Pick<WatchedTable, "channel" | "delivery"> {
  readonly rel: string
  readonly definition: Omit<Installed, "key">
}

/** Reads how tables are watched; the result says how to watch one again. */
export const watchCures = Effect.fnUntraced(function* (sql: SqlClient, schema: string) {
  const client = yield* objects(sql)
  const rows = yield* client.unsafe<Watch>(
    "select name as rel, channel, delivery, definition from realtime.watched order by id"
  )
  const again = (channel: string, rel: string): string => {
    const of = rows.filter((row) => row.channel === channel)
    const watch = of.find((row) => row.rel === rel)
    const line =
      watch === undefined
        ? undefined
        : watchLine(
            rel,
            channel,
            listsOf(watch.definition),
            optionsOf(watch.definition, watch.delivery, of.length > 1),
            schema
          )
    // Flags cannot say a route, a filter, or a column with a comma: a definition does.
    return (
      line ??
      `npx effect-realtime sql${ofSchema(schema)} --definitions <your module of channels> --apply`
    )
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
