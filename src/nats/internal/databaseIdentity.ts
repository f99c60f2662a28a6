/**
 * The identity of the database, which is in all its subjects: read at the start, and every 10 s, because the
 * objects may be installed anew.
 */
import type { PgClient } from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type { SqlError } from "effect/sql/SqlError"
import { isMissing } from "../../server/internal/link/sqlState.ts"
import { openStatement } from "../../server/internal/sql/identity.ts"
import { objects } from "../../server/internal/sql/objects.ts"
import { SchemaName } from "../../server/internal/sql/schemaName.ts"
import { NotInstalled } from "../../server/PgInstaller.ts"

const every = 10_000

/** Milliseconds that the database has for an answer. */
const patience = 5000

/**
 * `undefined` until it was read. Completes with the first read, or when the database could not be reached;
 * fails when the objects are missing.
 */
export const make = (
  sql: PgClient
): Effect.Effect<() => string | undefined, NotInstalled, Scope.Scope> =>
  Effect.gen(function* () {
    const schema = yield* SchemaName
    const client = yield* objects(sql)
    let current: string | undefined
    const read = client.unsafe<{ readonly identity: string | null }>(openStatement).pipe(
      Effect.timeout(patience),
      Effect.tap(([row]) => Effect.sync(() => void (current = row?.identity ?? current)))
    )
    yield* read.pipe(
      Effect.catch((error) =>
        isMissing(error)
          ? Effect.fail(new NotInstalled({ cause: error as SqlError, schema }))
          : Effect.void
      )
    )
    yield* Effect.forkScoped(Effect.repeat(Effect.ignore(read), Schedule.spaced(every)))
    return () => current
  })
