/**
 * Retention, by one node at a time: moves the horizon forward and deletes what it sees, in small batches on
 * the pool, so that the reader does not wait for it.
 */
import type { PgClient } from "@effect/sql-pg/PgClient"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import * as Cursor from "../../../internal/cursorText.ts"
import * as metrics from "../metrics.ts"
import type { Take } from "./outbox.ts"
import { explained } from "../link/databaseRefusal.ts"
import { Outage } from "../outage.ts"
import { objects } from "../sql/objects.ts"
import { SchemaName } from "../sql/schemaName.ts"
import { untraced } from "../tracing.ts"

/** Messages deleted in one transaction, which takes a few milliseconds. */
const batch = 1000
/** Milliseconds between two transactions, so that pruning does not monopolize the disk. */
const breath = 20

/** Milliseconds between two turns: a hundredth of the retention, at most 10 s. */
export const every = (retention: number): number => Math.min(10_000, Math.max(50, retention / 100))

/** The part of the notification queue from which it is a fault. */
export const fullQueue = 0.5

const queueText = (queue: number): string =>
  `PostgreSQL's notification queue is ${Math.round(queue * 100)} % full; when it is full, every transaction that notifies fails. Find the session that listens and has a transaction open: select pid, query from pg_stat_activity order by xact_start.`

export interface Upkeep {
  /** Requests a turn; `take` is the last position that the reader took. */
  readonly due: (take: Take, retention: number) => void
}

export const make = (sql: PgClient, enabled: boolean): Effect.Effect<Upkeep, never, Scope.Scope> =>
  Effect.gen(function* (): Effect.fn.Return<Upkeep, never, Scope.Scope> {
    if (!enabled) return { due: () => {} }
    const client = yield* objects(sql)
    const schema = yield* SchemaName
    // While a turn prunes, a newer request replaces the one that waits.
    const turns = yield* Queue.sliding<{ readonly take: Take; readonly retention: number }>(1)
    const pruning = new Outage({
      lost: "Pruning realtime.messages fails and is retried",
      back: "Pruning realtime.messages works again"
    })
    const fullness = new Outage({
      lost: "PostgreSQL's notification queue is filling",
      back: "PostgreSQL's notification queue has room again",
      counts: false
    })
    const prune = Effect.gen(function* () {
      const rows = yield* client.unsafe<{ readonly n: number }>(
        "select realtime.prune($1::int) n",
        [batch]
      )
      return rows[0]?.n ?? 0
    })
    const turn = Effect.gen(function* () {
      const { retention, take } = yield* Queue.take(turns)
      const rows = yield* client.unsafe<{
        readonly mine: boolean | null
        readonly queue: number
        readonly rows: string
        readonly bytes: string
      }>(
        "select realtime.upkeep($1::pg_snapshot, $2::xid8, $3::bigint, $4::int, $5) mine, pg_notification_queue_usage() queue, (select coalesce(max(id) - min(id) + 1, 0) from realtime.messages)::text rows, pg_total_relation_size('realtime.messages')::text bytes",
        [
          Cursor.formatSnapshot(take.normal),
          String(take.next),
          String(take.drawn),
          // Slightly less, so that the turns of one node do not miss each other's marks.
          Math.floor(every(retention) * 0.9),
          take.era
        ]
      )
      const { mine, queue, ...outbox } = rows[0]!
      yield* Metric.update(metrics.notificationQueue, queue)
      yield* Metric.update(metrics.outboxRows, Number(outbox.rows))
      yield* Metric.update(metrics.outboxBytes, Number(outbox.bytes))
      yield* queue > fullQueue ? fullness.failing(queueText(queue)) : fullness.recovered
      if (mine === true) while ((yield* prune) === batch) yield* Effect.sleep(breath)
      yield* pruning.recovered
    })
    yield* turn.pipe(
      Effect.catchCause((cause) =>
        Cause.hasInterruptsOnly(cause)
          ? Effect.interrupt
          : pruning.failing(explained(Cause.squash(cause), schema), cause)
      ),
      Effect.forever({ disableYield: true }),
      Effect.annotateLogs("component", "effect-realtime upkeep"),
      untraced,
      Effect.forkScoped
    )
    return { due: (take, retention) => void Queue.offerUnsafe(turns, { take, retention }) }
  })
