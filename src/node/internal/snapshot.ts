/**
 * The state of a page, read by the text of a query.
 *
 * In: the arguments of `snapshot` of the class. Out: the rows with their cursor.
 */
import { PgClient } from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { isSqlError, type SqlError } from "effect/sql/SqlError"
import type { Snapshot } from "../../RealtimeEvent.ts"
import { invalid, type InvalidOption } from "../../server/internal/options.ts"
import * as Realtime from "../../server/Realtime.ts"
import type { SnapshotOptions } from "../Options.ts"
import { transactionError, type TransactionError } from "./transaction.ts"

type StateError =
  | Exclude<Realtime.SnapshotError, SqlError>
  | Realtime.RowMismatch
  | InvalidOption
  | TransactionError

/** Without a Schema each row has its JSON values. */
export const readState = <A, I>(
  text: string,
  values: ReadonlyArray<unknown> = [],
  { row }: SnapshotOptions<A, I> = {}
): Effect.Effect<Snapshot<ReadonlyArray<A>>, StateError, PgClient> =>
  Effect.gen(function* () {
    if (typeof text !== "string") {
      return yield* invalid("text", text, `the text of a query, such as "select * from orders"`)
    }
    if (!Array.isArray(values)) {
      return yield* invalid("values", values, "a list of the values of $1, $2, ...")
    }
    const sql = yield* PgClient
    // The query becomes a subquery, which has no semicolon at its end.
    const query = sql.unsafe(text.replace(/[;\s]+$/, ""), values)
    const schema = (row ?? Schema.Unknown) as Schema.Codec<A, I>
    return yield* Realtime.snapshot(Realtime.readRows(schema, query))
  }).pipe(Effect.catchIf(isSqlError, (error) => Effect.fail(transactionError(error))))
