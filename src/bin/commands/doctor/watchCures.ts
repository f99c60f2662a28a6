/** What to run where a watched table lost its triggers, or is gone: with the options that it is watched with. */
import * as Effect from "effect/Effect"
import type { SqlClient } from "effect/sql/SqlClient"
import type { Installed } from "../../../server/internal/link/tableSchema.ts"
import type { WatchedTable } from "../../../server/internal/link/watched.ts"
import { objects } from "../../../server/internal/sql/objects.ts"
import { shellWord } from "../../shared/shell.ts"
import { listsOf, ofSchema, optionsOf, watchLine } from "../../shared/watchLine.ts"

interface Watch extends Pick<WatchedTable, "channel" | "delivery"> {
  /** Its name as it was when its triggers were written. */
  readonly rel: string
  /** Its name as it is; `null` for a table that is gone. */
  readonly now: string | null
  /** Whether there is a table with the name that it had. */
  readonly taken: boolean
  readonly definition: Omit<Installed, "key">
}

/** What to do, and the lines for it where they are several. */
interface Cure {
  readonly cure: string
  readonly lines: ReadonlyArray<string>
}

const oneLine = (cure: string): Cure => ({ cure, lines: [] })

const named = "format('%I.%I', n.nspname, c.relname)"

/** Reads how tables are watched; the result says how to watch one again. */
export const watchCures = Effect.fnUntraced(function* (sql: SqlClient, schema: string) {
  const client = yield* objects(sql)
  const rows = yield* client.unsafe<Watch>(
    `select w.name as rel, w.channel, w.delivery, w.definition,
  (select ${named} from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = w.rel) as now,
  exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace where ${named} = w.name and c.relkind in ('r', 'p')) as taken
from realtime.watched w order by w.id`
  )
  const run = `npx effect-realtime sql${ofSchema(schema)}`
  const again = (channel: string, rel: string): string => {
    const of = rows.filter((row) => row.channel === channel)
    const watch = of.find((row) => row.now === rel) ?? of.find((row) => row.rel === rel)
    const shared = of.some((row) => row.now !== null && row.rel !== rel)
    const line =
      watch === undefined
        ? undefined
        : watchLine(
            rel,
            channel,
            listsOf(watch.definition),
            optionsOf(watch.definition, watch.delivery, shared),
            schema
          )
    // Flags cannot say a route, a filter, or a column with a comma: a definition does.
    return line ?? `${run} --definitions <your module of channels> --apply`
  }
  const unwatch = (channel: string, rel: string): string =>
    `${run} --unwatch ${shellWord(`${rel}=${channel}`)} --apply`
  return {
    again,
    of: (channel: string, rel: string, trouble: string): Cure => {
      const those = rows.filter((row) => row.channel === channel && row.rel === rel)
      if (trouble === "the table is gone") {
        return oneLine(
          those.some(({ now, taken }) => now === null && taken)
            ? `There is another table of that name: watch it, as its owner: ${again(channel, rel)}`
            : `Create it and watch it again, or stop watching it: ${unwatch(channel, rel)}`
        )
      }
      const renamed = those.find(({ now }) => now !== null && now !== rel)?.now
      if (typeof renamed === "string" && trouble.startsWith("another table has its name now")) {
        // Where the other table is watched as well, how it is watched stays.
        const isWatched = those.some(({ now }) => now === rel)
        const lines = [unwatch(channel, renamed), ...(isWatched ? [] : [again(channel, rel)])]
        return {
          cure: `Rename the tables back, or let the channel have the changes of the table that is ${rel} now, as the owner of both:`,
          lines
        }
      }
      if (channel !== "") {
        return oneLine(`Mend it, and watch the table again as its owner: ${again(channel, rel)}`)
      }
      const watch = rows.find((row) => row.rel === rel)
      return oneLine(
        watch === undefined
          ? `Drop that trigger, or watch the table: ${run} --watch-durable ${shellWord(rel)} --apply`
          : `Drop that trigger, or watch the table again: ${again(watch.channel, rel)}`
      )
    }
  }
})
