/**
 * The statements that a node reads on its pool for subscribers: pages of replays, and states. They share
 * their limits and their timeout.
 */
import type { PgClient } from "@effect/sql-pg/PgClient"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Semaphore from "effect/Semaphore"
import { isSqlError } from "effect/sql/SqlError"
import { objects } from "../sql/objects.ts"
import { belowCaller } from "../tracing.ts"
import { ReplayError } from "./outboxErrors.ts"
import { ReplayAdmission, type ReplayLimits } from "./replayAdmission.ts"

/** A row of an answer. */
export type Answered = Readonly<Record<string, unknown>>

export interface ReplayPool {
  /** Runs one statement for a channel, and reads its answer. */
  readonly ask: <A>(
    channel: string,
    statement: string,
    args: ReadonlyArray<unknown>,
    parse: (rows: ReadonlyArray<Answered>) => A
  ) => Effect.Effect<A, ReplayError>
  readonly admission: ReplayAdmission
}

export const make = (
  sql: PgClient,
  /** The limits of all replays and states of the node. */
  together: ReplayLimits,
  /** The timeout of one statement. */
  patience: Duration.Duration
): Effect.Effect<ReplayPool> =>
  Effect.gen(function* () {
    const pages = yield* Semaphore.make(together.atOnce)
    const client = yield* objects(sql)
    const ask: ReplayPool["ask"] = (channel, statement, args, parse) =>
      client.unsafe<Answered>(statement, args).pipe(
        belowCaller,
        Effect.flatMap((rows) => Effect.try({ try: () => parse(rows), catch: (cause) => cause })),
        // In a transaction of the caller the answer would be as of its snapshot, and the subscriber would
        // miss later messages without a gap.
        Effect.updateContext(Context.omit(sql.transactionService)<never>),
        // On a silently dead connection the pool would wait for ever.
        Effect.timeoutOrElse({
          duration: patience,
          orElse: () => Effect.fail(new Error(`no answer within ${Duration.toMillis(patience)} ms`))
        }),
        pages.withPermit,
        Effect.mapError(
          (error) =>
            new ReplayError({ channel, cause: isSqlError(error) ? error.reason.cause : error })
        )
      )
    return { ask, admission: new ReplayAdmission(together) }
  })

/** Fails when the pool's database is not the primary. */
export const known = (
  channel: string,
  identity: string | null
): Effect.Effect<string, ReplayError> =>
  identity === null
    ? Effect.fail(
        new ReplayError({
          channel,
          cause: new Error("the pool is connected to a standby, or the database has just recovered")
        })
      )
    : Effect.succeed(identity)
