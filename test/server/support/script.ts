/**
 * Runs printed SQL as a migration tool does: one statement after the other, up to the first that
 * fails.
 */
import type { PgConnection } from "@effect/sql-pg"
import { Effect } from "effect"
import type { SqlError } from "effect/sql/SqlError"

export const script = (
  db: PgConnection.PgConnection,
  text: string
): Effect.Effect<void, SqlError> =>
  Effect.forEach(
    text.split(";\n\n").filter((statement) => statement.trim() !== ""),
    (statement) => db.query(statement, [], false),
    { discard: true }
  )
