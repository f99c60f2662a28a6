/**
 * Reads a state together with its exact position.
 *
 * Everything that the query reads, and the cursor, are of one snapshot of PostgreSQL: a subscriber that
 * resumes from the cursor misses nothing and receives nothing twice. This needs a transaction of its own,
 * on the primary, without a transaction number. One that has written would count itself wrongly, and a
 * standby does not know which transactions are in progress.
 */
import { PgClient } from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { BeginTransaction } from "effect/sql/SqlClient"
import { isSqlError, type SqlError } from "effect/sql/SqlError"
import type { Snapshot } from "../../../RealtimeEvent.ts"
import { NotInstalled } from "../../PgInstaller.ts"
import { openStatement } from "../sql/identity.ts"
import { NotPrimary } from "../link/databaseRefusal.ts"
import { isMissing } from "../link/sqlState.ts"
import { parsePlace, stateStatement } from "./outbox.ts"
import { formatPosition, whole } from "./position.ts"
import { objects } from "../sql/objects.ts"
import { SchemaName } from "../sql/schemaName.ts"

/**
 * A snapshot was requested inside a transaction.
 *
 * @category errors
 * @since 0.1.0
 */
export class NestedSnapshot extends Schema.TaggedError<NestedSnapshot>()("NestedSnapshot", {}) {
  override get message(): string {
    return "A snapshot cannot be taken inside a transaction: the position would not fit what the transaction itself has written. Take it outside, before or after."
  }
}

/** Why a state was not read, beside errors of the query itself. */
export type SnapshotError = NestedSnapshot | NotInstalled | NotPrimary | SqlError

/**
 * Runs a query and returns its result with the cursor of the same snapshot of the database: follow the
 * durable channel `from` that cursor, or give both to `useChannel({ load })`.
 *
 * The query runs in a transaction of its own, REPEATABLE READ and READ ONLY, on the primary; inside another
 * transaction it fails with `NestedSnapshot`.
 *
 * A query that waits for a TRUNCATE, or for an ALTER TABLE that rewrites the table, finds the table empty
 * afterwards: PostgreSQL shows the new files to no earlier snapshot. After a TRUNCATE a gap follows the
 * cursor. After an ALTER TABLE nothing follows, so read again after such a migration. The state of a
 * `Channel.table` notices both and is read again by itself.
 *
 * @category reading state
 * @since 0.1.0
 */
export const snapshot = <A, E, R>(
  query: Effect.Effect<A, E, R>
): Effect.Effect<Snapshot<A>, E | SnapshotError, R | PgClient> =>
  Effect.gen(function* () {
    const sql = yield* PgClient
    const client = yield* objects(sql)
    if (Option.isSome(yield* Effect.serviceOption(sql.transactionService))) {
      return yield* new NestedSnapshot()
    }
    // After a crash the identity is missing until a transaction that may write asks for it.
    for (const last of [false, true]) {
      const taken = yield* sql
        .withTransaction(
          Effect.gen(function* () {
            // The first statement fixes the snapshot for all that follow.
            const rows = yield* client
              .unsafe<{
                readonly identity: string | null
                readonly standby: boolean
                readonly writes: boolean
              }>(position)
              .pipe(installed)
            const row = rows[0]!
            const place = parsePlace(row)
            if (row.standby) return yield* new NotPrimary()
            if (row.writes || place === undefined) return yield* new NestedSnapshot()
            if (row.identity === null) return undefined
            const cursor = formatPosition(row.identity, whole(place))
            // Does not apply to transactions that the query itself begins elsewhere.
            const value = yield* Effect.provideService(query, BeginTransaction, undefined)
            return { _tag: "Snapshot" as const, value, cursor }
          })
        )
        .pipe(
          Effect.provideService(
            BeginTransaction,
            "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"
          ),
          // A transaction whose session is gone fails, and then dies because it cannot roll back.
          Effect.catchDefect((defect) =>
            isSqlError(defect) ? Effect.fail(defect) : Effect.die(defect)
          )
        )
      if (taken !== undefined) return taken
      if (last) break
      yield* client.unsafe(openStatement).pipe(installed)
    }
    return yield* new NotPrimary()
  })

const installed = <A, R>(
  query: Effect.Effect<A, SqlError, R>
): Effect.Effect<A, NotInstalled | SqlError, R> =>
  Effect.catchIf(query, isMissing, (cause) =>
    Effect.flatMap(SchemaName, (schema) => Effect.fail(new NotInstalled({ cause, schema })))
  )

const position = stateStatement(`pg_is_in_recovery() standby,
  pg_current_xact_id_if_assigned() is not null writes, realtime.identity() identity`)
