/**
 * Queries for code without Effect: on the class's pool, or inside of a transaction that is open.
 *
 * In: the text of a query and its values. Out: rows, or `TransactionError`. Who opens and commits the
 * transaction is another file's work.
 */
import type { PgClient } from "@effect/sql-pg/PgClient"
import * as Cause from "effect/Cause"
import type * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { sqlMessage, sqlState } from "../../server/internal/link/sqlState.ts"
import type { Transaction } from "../Options.ts"

/**
 * A query of `snapshot` or of a consumer's transaction failed, and its transaction is rolled back.
 *
 * - `query`: PostgreSQL refused it, or the session was lost on the way; `code` and `detail` say which.
 * - `ended`: it was asked after `onEvents` had settled, or after the consumer was stopped.
 *
 * @category errors
 * @since 0.1.0
 */
export class TransactionError extends Data.TaggedError("TransactionError")<{
  readonly reason: "query" | "ended"
  /** The SQLSTATE of PostgreSQL, e.g. `23505`, or the code of the socket, where there is one. */
  readonly code: string | undefined
  /** What PostgreSQL or the socket said. */
  readonly detail: string
  readonly cause?: unknown
}> {
  override get message(): string {
    const { code, detail, reason } = this
    return reason === "ended"
      ? "The transaction has ended, so the query was not sent. Await each query inside of onEvents."
      : `A query failed, and its transaction is rolled back: ${detail}${code === undefined ? "" : ` (${code})`}.`
  }
}

/** What the driver says, for code that does not know it. */
export const transactionError = (error: unknown): TransactionError =>
  new TransactionError({
    reason: "query",
    code: sqlState(error),
    detail: sqlMessage(error).replace(/\.$/, ""),
    cause: error
  })

const ended = () =>
  new TransactionError({ reason: "ended", code: undefined, detail: "The transaction has ended" })

/** A transaction as `onEvents` is given it, and what ends it. */
export interface OpenTransaction {
  readonly transaction: Transaction
  /** The first query that failed: after it PostgreSQL answers every other one `25P02`. */
  readonly failed: () => TransactionError | undefined
  /** Sends no more queries. Settles when those that were sent are answered. */
  readonly end: () => Promise<void>
  /** The same, and does not wait for the answers. */
  readonly cut: () => void
}

/** `context`: of an Effect that runs inside of the transaction. */
export const openTransaction = (
  client: PgClient,
  context: Context.Context<never>
): OpenTransaction => {
  const cutting = new AbortController()
  const pending = new Set<Promise<unknown>>()
  const run = Effect.runPromiseExitWith(context)
  let open = true
  let failed: TransactionError | undefined

  const send = async (text: string, values: ReadonlyArray<unknown>) => {
    const exit = await run(client.unsafe<Readonly<Record<string, unknown>>>(text, values), {
      signal: cutting.signal
    })
    if (Exit.isSuccess(exit)) return exit.value
    if (Cause.hasInterruptsOnly(exit.cause)) throw ended()
    const error = transactionError(Cause.squash(exit.cause))
    failed ??= error
    throw error
  }

  return {
    transaction: {
      query: (text, values = []) => {
        if (!open) return Promise.reject(ended())
        const answer = send(text, values)
        // One that the caller does not await rolls the batch back like any other.
        const settled = answer.then(
          () => void pending.delete(settled),
          () => void pending.delete(settled)
        )
        pending.add(settled)
        return answer
      }
    },
    failed: () => failed,
    end: async () => {
      open = false
      await Promise.all(pending)
    },
    cut: () => {
      open = false
      cutting.abort()
    }
  }
}
