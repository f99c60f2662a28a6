/**
 * The transaction of a batch, for code without Effect.
 *
 * In: the text of a query and its values. Out: rows, or `TransactionError`. `Realtime.consume` begins and
 * commits the transaction.
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
 * A query of `snapshot` or of a consumer's transaction failed, and PostgreSQL rolls the transaction back.
 *
 * - `query`: PostgreSQL rejected the query, or the session was lost; see `code` and `detail`.
 * - `ended`: `query` was called after `onEvents` had settled, or after the consumer was stopped.
 *
 * @category errors
 * @since 0.1.0
 */
export class TransactionError extends Data.TaggedError("TransactionError")<{
  /** Which of both. */
  readonly reason: "query" | "ended"
  /** The SQLSTATE of PostgreSQL, e.g. `23505`, or the code of the socket, if there is one. */
  readonly code: string | undefined
  /** The message of PostgreSQL or of the socket. */
  readonly detail: string
  /** The error of the driver. */
  readonly cause?: unknown
}> {
  override get message(): string {
    const { code, detail, reason } = this
    return reason === "ended"
      ? "The transaction has ended, so the query was not sent. Await each query inside of onEvents."
      : `A query failed, and PostgreSQL rolls its transaction back: ${detail}${code === undefined ? "" : ` (${code})`}.`
  }
}

/** The error of the driver, for code without Effect. */
export const transactionError = (error: unknown): TransactionError =>
  new TransactionError({
    reason: "query",
    code: sqlState(error),
    detail: sqlMessage(error).replace(/\.$/, ""),
    cause: error
  })

const ended = () =>
  new TransactionError({ reason: "ended", code: undefined, detail: "The transaction has ended" })

/** The transaction that `onEvents` receives, and the functions that end it. */
export interface OpenTransaction {
  readonly transaction: Transaction
  /** The first failed query: PostgreSQL rejects all queries after it with `25P02`. */
  readonly failed: () => TransactionError | undefined
  /** Sends no more queries, and waits for the answers of those that were sent. */
  readonly end: () => Promise<void>
  /** Sends no more queries, and interrupts those that were sent. */
  readonly cut: () => void
}

/** `context` is that of an Effect inside of the transaction. */
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
        // The failure of a query that the caller does not await rolls the batch back too.
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
