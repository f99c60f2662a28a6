/** Statements about the installed objects, in the schema of any name. */
import * as Effect from "effect/Effect"
import type { SqlClient } from "effect/sql/SqlClient"
import { inSchema, SchemaName, usual } from "./schemaName.ts"

/** A client that runs SQL written for the schema `realtime` in the schema that `SchemaName` names. */
export const objects = (sql: SqlClient): Effect.Effect<Pick<SqlClient, "unsafe">> =>
  Effect.map(SchemaName, (schema) => {
    const client = sql.withoutTransforms()
    if (schema === usual) return client
    return { unsafe: (text, params) => client.unsafe(inSchema(schema, text), params) }
  })
