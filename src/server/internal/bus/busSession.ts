/**
 * What the bus sends over PostgreSQL: on a session of its own, so that a node is heard while the application
 * uses its whole pool.
 *
 * In: the pool, whose address the session has too, and the state of the link. Out: a function that sends. The
 * session is opened again after each loss, and when the link is back: what cut one off cut off both. Where there
 * is none now the pool sends, and the session as well once it is there, because a connection of the pool may be
 * dead. Other nodes take a text once.
 */
import type { PgClient } from "@effect/sql-pg/PgClient"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import type { SqlError } from "effect/sql/SqlError"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as Backoff from "../../../Backoff.ts"
import type { SourceState } from "../../NotificationSource.ts"
import * as PgLink from "../link/pgLink.ts"
import { sqlMessage } from "../link/sqlState.ts"
import * as Reconnecting from "../reconnecting.ts"
import { untraced } from "../tracing.ts"

/** How long the database may take to send a text, less than the bus waits for it. */
const patience = Duration.seconds(4)

/** The most milliseconds between two attempts while the link is up. */
const soon = 500

const statement = "select pg_notify($1, $2)"

export type Notify = (channel: string, text: string) => Effect.Effect<unknown, SqlError>

export const make = (
  sql: PgClient,
  link: SubscriptionRef.SubscriptionRef<SourceState>
): Effect.Effect<Notify, never, Scope.Scope> =>
  Effect.gen(function* () {
    const pooled: Notify = (channel, text) => untraced(sql.unsafe(statement, [channel, text]))
    /** The bus may go on before the query ends: on a dead connection that takes seconds. */
    const pooledApart: Notify = (channel, text) =>
      pooled(channel, text).pipe(
        Effect.timeoutOption(patience),
        // Also the goodbye of a bus whose scope closes.
        Effect.forkDetach({ startImmediately: true }),
        Effect.flatMap(Fiber.join),
        Effect.flatMap((sent) => (Option.isSome(sent) ? Effect.void : Effect.never))
      )
    const secured = PgLink.secured(sql.config)
    if (Result.isFailure(secured)) return pooled
    let present: PgLink.PgLink | undefined
    /** Completes with the next session. */
    let there = Deferred.makeUnsafe<PgLink.PgLink>()
    /** From here on the next session counts: a text that waits for `there` must not have the lost one. */
    const lost = (link: PgLink.PgLink): void => {
      if (present !== link) return
      present = undefined
      there = Deferred.makeUnsafe()
    }
    /** Completes when the link is back. */
    let linkIsBack = Deferred.makeUnsafe<void>()
    yield* SubscriptionRef.changes(link).pipe(
      Stream.filter((state) => state === "up"),
      // At the start nothing was lost.
      Stream.drop(1),
      Stream.runForEach(() => {
        const before = linkIsBack
        linkIsBack = Deferred.makeUnsafe()
        return Deferred.succeed(before, undefined)
      }),
      Effect.forkScoped
    )
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
            lost(link)
            // A dead server would not answer.
            link.destroy()
          })
        )
        present = link
        Deferred.doneUnsafe(there, Effect.succeed(link))
        yield* onUp
        return yield* link.beat
      }).pipe(
        Effect.raceFirst(
          Effect.suspend(() => Deferred.await(linkIsBack)).pipe(
            Effect.andThen(
              Effect.suspend(() => {
                // At once: a heartbeat that is interrupted waits for a dead server.
                present?.destroy()
                return Effect.fail(new Error("the link was lost, and is back"))
              })
            )
          )
        ),
        Effect.scoped
      )
    const reconnecting = yield* Reconnecting.make(Backoff.link, {
      fromStart: false,
      // The bus itself logs whether it can send.
      outage: "The session of the bus is down"
    })
    yield* reconnecting(session, (cause) =>
      Effect.map(SubscriptionRef.get(link), (state) => ({
        delay: (usual: number) => (state === "up" ? Math.min(usual, soon) : usual),
        reason: sqlMessage(Cause.squash(cause))
      }))
    ).pipe(Effect.annotateLogs("component", "effect-realtime bus"), Effect.forkScoped)
    const beside: Notify = (channel, text) =>
      Effect.raceFirst(
        pooledApart(channel, text),
        Effect.suspend(() => Deferred.await(there)).pipe(
          Effect.flatMap((own) => own.query(statement, [channel, text], patience)),
          // The bus sends its next text with the next heartbeat.
          Effect.catch(() => Effect.never)
        )
      )
    return (channel, text) =>
      Effect.suspend(() => {
        const own = present
        if (own === undefined) return beside(channel, text)
        return own.query(statement, [channel, text], patience).pipe(
          Effect.catch(() => {
            lost(own)
            own.destroy()
            return beside(channel, text)
          })
        )
      })
  })
