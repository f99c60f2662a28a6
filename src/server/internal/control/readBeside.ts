/**
 * Reads that do not wait for a busy pool: a node that cannot read the revocations accepts no sessions.
 *
 * In: the pool. Out: a function that reads. When the pool has no answer after a second, one more session at its
 * address reads as well, and closes. The first answer counts.
 */
import type { PgClient } from "@effect/sql-pg/PgClient"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Result from "effect/Result"
import type { SqlError } from "effect/sql/SqlError"
import * as PgLink from "../link/pgLink.ts"
import { objects } from "../sql/objects.ts"
import { SchemaName } from "../sql/schemaName.ts"
import { untraced } from "../tracing.ts"

/** Milliseconds. */
const poolPatience = 1000
const patience = Duration.seconds(4)

export type Read = <Row extends object>(
  text: string,
  params: ReadonlyArray<unknown>
) => Effect.Effect<ReadonlyArray<Row>, SqlError>

export const make = (sql: PgClient): Effect.Effect<Read> =>
  Effect.gen(function* () {
    const client = yield* objects(sql)
    const schema = yield* SchemaName
    const secured = PgLink.secured(sql.config)
    if (Result.isFailure(secured))
      return <Row extends object>(text: string, params: ReadonlyArray<unknown>) =>
        untraced(client.unsafe<Row>(text, params))
    const beside = (text: string, params: ReadonlyArray<unknown>) =>
      PgLink.open({
        connection: secured.success.connection,
        heartbeat: patience,
        heartbeatTimeout: patience,
        name: "effect-realtime control",
        schema
      }).pipe(
        Effect.flatMap((link) => link.query(text, params, patience)),
        Effect.scoped,
        // The pool may still answer.
        Effect.catch(() => Effect.never)
      )
    /** The answer of the pool. The reader does not wait for the query to end: on a dead connection that takes seconds. */
    const pooled = <Row extends object>(text: string, params: ReadonlyArray<unknown>) =>
      Effect.flatMap(
        Effect.forkDetach(untraced(client.unsafe<Row>(text, params)), { startImmediately: true }),
        (query) =>
          Effect.onInterrupt(Fiber.join(query), () => Effect.sync(() => query.interruptUnsafe()))
      )
    return <Row extends object>(text: string, params: ReadonlyArray<unknown>) =>
      Effect.raceFirst(
        pooled<Row>(text, params),
        Effect.delay(beside(text, params), poolPatience) as Effect.Effect<ReadonlyArray<Row>>
      )
  })
