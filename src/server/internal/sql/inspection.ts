/**
 * What the catalogs say about an install, as statements that every role may run: they ask for the rights
 * first, because a statement without them would log an error in the database.
 */
import * as Effect from "effect/Effect"
import type { SqlClient } from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import { objects } from "./objects.ts"

/** Whether the schema has the objects. */
export const isInstalled = (sql: SqlClient): Effect.Effect<boolean, SqlError> =>
  Effect.gen(function* () {
    const client = yield* objects(sql)
    const found = yield* client.unsafe(
      `select from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = 'realtime' and c.relname = 'settings'`
    )
    return found.length > 0
  })

/** Whether the outbox has a message of the channel; `undefined` where the role may not read it. */
export const hasMessages = (
  sql: SqlClient,
  channel: string
): Effect.Effect<boolean | undefined, SqlError> =>
  Effect.gen(function* () {
    const client = yield* objects(sql)
    const readable = yield* client.unsafe(
      `select from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = 'realtime' and c.relname = 'messages'
  and has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'select')`
    )
    if (readable.length === 0) return undefined
    const found = yield* client.unsafe(
      "select from realtime.messages m where m.channel = $1 limit 1",
      [channel]
    )
    return found.length > 0
  })
