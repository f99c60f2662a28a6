/**
 * Retention, one node at a time: puts the horizon forward and deletes what it sees, in small batches
 * on the pool, so that the reader does not wait for it.
 */
import type { PgClient } from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import * as Cursor from "../../../internal/cursor.ts"
import * as metrics from "../metrics.ts"
import type { Take } from "./outbox.ts"
import { sqlMessage } from "../link/sqlState.ts"
import { objects } from "../sql/objects.ts"

/** Messages deleted in one transaction: a few milliseconds. */
const batch = 1000
/** Between two of them, so that pruning never takes the disk for itself. */
const breath = 20

/** Milliseconds between two turns: a hundredth of the retention, 10 s at most. */
export const every = (retention: number): number => Math.min(10_000, Math.max(50, retention / 100))

export interface Upkeep {
  /** A turn is due; `take` is what the reader took last. */
  readonly due: (take: Take, retention: number) => void
}

export const make = (sql: PgClient, enabled: boolean): Effect.Effect<Upkeep, never, Scope.Scope> =>
  Effect.gen(function* (): Effect.fn.Return<Upkeep, never, Scope.Scope> {
    if (!enabled) return { due: () => {} }
    const client = yield* objects(sql)
    // A turn that comes while the last one still prunes takes the place of one that waits.
    const turns = yield* Queue.sliding<{ readonly take: Take; readonly retention: number }>(1)
    const prune = Effect.gen(function* () {
      const rows = yield* client.unsafe<{ readonly n: number }>(
        "select realtime.prune($1::int) n",
        [batch]
      )
      return rows[0]?.n ?? 0
    })
    const turn = Effect.gen(function* () {
      const { retention, take } = yield* Queue.take(turns)
      const rows = yield* client.unsafe<{ readonly mine: boolean | null; readonly queue: number }>(
        "select realtime.upkeep($1::pg_snapshot, $2::xid8, $3::bigint, $4::int, $5) mine, pg_notification_queue_usage() queue",
        [
          Cursor.formatSnapshot(take.normal),
          String(take.next),
          String(take.drawn),
          // A little less, or one node's turns would miss each other's marks by a hair.
          Math.floor(every(retention) * 0.9),
          take.era
        ]
      )
      const { mine, queue } = rows[0]!
      yield* Metric.update(metrics.notificationQueue, queue)
      if (queue > 0.5) {
        yield* Effect.logWarning(
          `PostgreSQL's queue of notifications is ${Math.round(queue * 100)} % full; when it is full, every transaction that notifies fails. Find the session that listens and has a transaction open: select pid, query from pg_stat_activity order by xact_start.`
        )
      }
      if (mine !== true) return
      while ((yield* prune) === batch) yield* Effect.sleep(breath)
    })
    yield* turn.pipe(
      Effect.catch((error) =>
        Effect.logWarning(
          `Pruning realtime.messages failed, it will be tried again: ${sqlMessage(error)}`
        )
      ),
      Effect.forever({ disableYield: true }),
      Effect.annotateLogs("component", "effect-realtime upkeep"),
      Effect.forkScoped
    )
    return { due: (take, retention) => void Queue.offerUnsafe(turns, { take, retention }) }
  })
