/**
 * What the bus sends over PostgreSQL: on a session of its own, so that a node is heard while the application
 * uses its whole pool.
 *
 * In: the pool, whose address the session has too. Out: a function that sends. The session is opened again
 * after each loss. Where there is none now, the pool sends.
 */
import type { PgClient } from "@effect/sql-pg/PgClient"
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import type { SqlError } from "effect/sql/SqlError"
import * as Backoff from "../../../Backoff.ts"
import * as PgLink from "../link/pgLink.ts"
import { sqlMessage } from "../link/sqlState.ts"
import * as Reconnecting from "../reconnecting.ts"
import { untraced } from "../tracing.ts"

/** How long the database may take to send a text, less than the bus waits for it. */
const patience = Duration.seconds(4)

const statement = "select pg_notify($1, $2)"

export type Notify = (channel: string, text: string) => Effect.Effect<unknown, SqlError>

export const make = (sql: PgClient): Effect.Effect<Notify, never, Scope.Scope> =>
  Effect.gen(function* () {
    const pooled: Notify = (channel, text) => untraced(sql.unsafe(statement, [channel, text]))
    const secured = PgLink.secured(sql.config)
    if (Result.isFailure(secured)) return pooled
    let present: PgLink.PgLink | undefined
    const session = (onUp: Effect.Effect<void>) =>
      Effect.gen(function* () {
        const link = yield* PgLink.open({
          connection: secured.success.connection,
          heartbeat: patience,
          heartbeatTimeout: patience,
          name: "effect-realtime bus"
        })
        yield* Effect.addFinalizer(() =>
          Effect.sync(() => {
            present = undefined
            // A dead server would not answer.
            link.destroy()
          })
        )
        present = link
        yield* onUp
        return yield* link.beat
      }).pipe(Effect.scoped)
    const reconnecting = yield* Reconnecting.make(Backoff.link, {
      fromStart: false,
      // The bus itself logs whether it can send.
      outage: "The session of the bus is down"
    })
    yield* reconnecting(session, (cause) =>
      Effect.succeed({ reason: sqlMessage(Cause.squash(cause)) })
    ).pipe(Effect.annotateLogs("component", "effect-realtime bus"), Effect.forkScoped)
    return (channel, text) =>
      Effect.suspend(() => {
        const own = present
        if (own === undefined) return pooled(channel, text)
        return own.query(statement, [channel, text], patience).pipe(
          Effect.catch(() => {
            own.destroy()
            return pooled(channel, text)
          })
        )
      })
  })
