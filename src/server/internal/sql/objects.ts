/** Statements about the installed objects, whatever their schema is called. */
import * as Effect from "effect/Effect"
import type { SqlClient } from "effect/sql/SqlClient"
import { inSchema, SchemaName, usual } from "./schemaName.ts"

/** What is written for the schema `realtime` runs in the one that `SchemaName` says. */
export const objects = (sql: SqlClient): Effect.Effect<Pick<SqlClient, "unsafe">> =>
  Effect.map(SchemaName, (schema) => {
    const client = sql.withoutTransforms()
    if (schema === usual) return client
    return { unsafe: (text, params) => client.unsafe(inSchema(schema, text), params) }
  })
