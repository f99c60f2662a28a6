/** The database of a command: its connections, and what to say when it refuses. */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import { isSqlError } from "effect/sql/SqlError"
import { errorText } from "../../internal/errorText.ts"
import { explained } from "../../server/internal/link/databaseRefusal.ts"
import { isMissing } from "../../server/internal/link/sqlState.ts"
import { SchemaName } from "../../server/internal/sql/schemaName.ts"
import { NotInstalled } from "../../server/PgInstaller.ts"
import * as PgTls from "../../server/PgTls.ts"
import { CommandFailed, failed } from "./exit.ts"

/** Where the objects of a command are. */
export interface Place {
  readonly database: Redacted.Redacted
  readonly schema: string
}

/** A sentence for the user, with the cure where one is known. */
const sentenceOf = (error: unknown, schema: string): string => {
  if (isSqlError(error)) {
    return isMissing(error) ? new NotInstalled({ schema }).message : explained(error, schema)
  }
  return errorText(error)
}

/** Ends the command with the sentence of an error. */
export const failedBy =
  (schema: string) =>
  (error: unknown): CommandFailed =>
    error instanceof CommandFailed ? error : failed(sentenceOf(error, schema))

/** A pool of few connections, and the schema of the objects. Connects at the first statement. */
export const layerDatabase = ({ database, schema }: Place) =>
  Layer.merge(
    Layer.unwrap(
      Effect.map(PgTls.config(database), (config) =>
        PgClient.layer({ ...config, maxConnections: 2, applicationName: "effect-realtime cli" })
      )
    ),
    Layer.succeed(SchemaName, schema)
  )
