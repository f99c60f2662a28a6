/** Whether what is sent through the pool arrives on the link: a transaction pooler drops LISTEN. */
import type { Notification } from "@effect/sql-pg/PgConnection"
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import type { SqlClient } from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import { untraced } from "../tracing.ts"
import { ListenNotDelivered } from "./databaseRefusal.ts"

/** Time for the notification to arrive, from the answer of `pg_notify`. */
const echoMillis = 2000

/** Time for `pg_notify` itself, because the pool may connect slowly. */
const notifyPatience = "30 seconds"

/** Links in a row that must fail. */
export const leastMisses = 3

/** Sends to a random name through the pool, and waits for the notification. Runs `onPool` if the pool fails. */
export const selfTest = (
  sql: SqlClient,
  name: string,
  echo: Queue.Dequeue<Notification, SqlError>,
  onPool: Effect.Effect<void> = Effect.void
): Effect.Effect<void, ListenNotDelivered | SqlError | Cause.TimeoutError> =>
  sql`select pg_notify(${name}, '')`.pipe(
    untraced,
    Effect.timeout(notifyPatience),
    Effect.tapError(() => onPool),
    Effect.andThen(
      Queue.take(echo).pipe(
        Effect.timeoutOrElse({
          duration: echoMillis,
          orElse: () => Effect.fail(new ListenNotDelivered({ waited: echoMillis }))
        })
      )
    ),
    Effect.asVoid
  )
