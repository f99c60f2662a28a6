/**
 * Sends the LISTENs and UNLISTENs of one session, many in one statement.
 *
 * A session runs one statement at a time, and each takes a round trip and a turn of the event loop. One by
 * one, a thousand channels opened at once would take a thousand turns, and heartbeats would wait behind
 * them. Requests that arrive while a statement runs go out together in the next one.
 *
 * The driver sends each through the `query` of the pinned session, and this module joins them there. With a
 * driver that sends them in another way, nothing is joined and the rest works the same.
 */
import type { PgConnection, Result } from "@effect/sql-pg/PgConnection"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import type { SqlError } from "effect/sql/SqlError"

/** The most LISTENs in one statement. */
const most = 64

/** As the driver writes them, with a name that is safe in the text of a block. */
const listening = /^(?:UN)?LISTEN "[A-Za-z0-9_.:-]+"$/

interface Asked {
  readonly sql: string
  readonly done: Deferred.Deferred<Result, SqlError>
}

/** Joins statements that go through `query` until the scope closes; `send` runs one statement. */
export const join = (
  pinned: PgConnection,
  send: (sql: string) => Effect.Effect<Result, SqlError>
): Effect.Effect<void, never, Scope.Scope> =>
  Effect.gen(function* () {
    const { query } = pinned
    const asked = yield* Queue.unbounded<Asked>()
    let ended = false
    /** The server rejects blocks: the role may lack the privilege for the language. */
    let oneByOne = false

    const answer = (batch: ReadonlyArray<Asked>, exit: Exit.Exit<Result, SqlError>) => {
      for (const { done } of batch) Deferred.doneUnsafe(done, exit)
    }

    const each = (batch: ReadonlyArray<Asked>) =>
      Effect.forEach(
        batch,
        ({ done, sql }) =>
          Effect.flatMap(Effect.exit(send(sql)), (exit) => Deferred.done(done, exit)),
        { discard: true }
      )

    const together = (batch: ReadonlyArray<Asked>) =>
      Effect.flatMap(
        Effect.exit(send(`do $$begin ${batch.map(({ sql }) => sql).join("; ")}; end$$`)),
        (exit) => {
          if (Exit.isFailure(exit)) {
            oneByOne = true
            return each(batch)
          }
          answer(batch, exit)
          return Effect.void
        }
      )

    yield* Effect.gen(function* () {
      while (true) {
        const batch = yield* Queue.takeBetween(asked, 1, most)
        yield* Effect.onInterrupt(
          oneByOne || batch.length === 1 ? each(batch) : together(batch),
          () => Effect.sync(() => answer(batch, Exit.interrupt()))
        )
      }
    }).pipe(
      Effect.ensuring(
        Effect.suspend(() => {
          ended = true
          // The loop is over: runs the requests that still wait, so that their callers get an answer.
          return Effect.flatMap(Queue.clear(asked), each)
        })
      ),
      Effect.forkScoped({ startImmediately: true })
    )

    Object.assign(pinned, {
      query: ((sql, params, prepare) =>
        ended || (params !== undefined && params.length > 0) || !listening.test(sql)
          ? query(sql, params, prepare)
          : Effect.suspend(() => {
              const done = Deferred.makeUnsafe<Result, SqlError>()
              Queue.offerUnsafe(asked, { sql, done })
              return Deferred.await(done)
            })) satisfies PgConnection["query"]
    })
  })
