/**
 * Named consumers: each has a cursor in the database, which moves in the transaction of the work itself.
 *
 * One of several workers with one name works at a time, by a lease; the others wait. What makes the work
 * happen exactly once is the cursor alone: it moves only from where the worker read it, in the transaction
 * of the work, so a worker that was overtaken rolls back.
 *
 * A worker that is stopped in the middle of its transaction keeps the locks that its work has taken. The
 * next holder of the lease would wait for them, so it ends the session of that transaction.
 */
import { PgClient } from "@effect/sql-pg/PgClient"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { isSqlError, type SqlError } from "effect/sql/SqlError"
import * as Semaphore from "effect/Semaphore"
import * as Stream from "effect/Stream"
import * as Backoff from "../../../Backoff.ts"
import { type DurableBatch, type DurableGap, OutboxReader } from "../../OutboxReader.ts"
import { consumerLease, type NodeLease } from "./lease.ts"
import type { OutboxFault } from "./outboxErrors.ts"
import { isForbidden, sqlMessage, sqlState } from "../link/sqlState.ts"
import { oldestStatement, parsePlace } from "./outbox.ts"
import { formatPosition, whole } from "./position.ts"
import { objects } from "../sql/objects.ts"
import { Outage } from "../outage.ts"
import * as Reconnecting from "../reconnecting.ts"
import { secondsSince, tally } from "../tally.ts"
import { inSpan, linksTo, untraced } from "../tracing.ts"

/**
 * The name belongs to a consumer of another channel.
 *
 * @category errors
 * @since 0.1.0
 */
export class ConsumerConflict extends Schema.TaggedError<ConsumerConflict>()("ConsumerConflict", {
  name: Schema.String,
  /** The channel that this consumer was to read. */
  channel: Schema.String,
  /** The channel that the consumer of this name reads. */
  other: Schema.String
}) {
  override get message(): string {
    return `The consumer "${this.name}" reads channel "${this.other}", not "${this.channel}". Give each consumer a name of its own, or delete its row from realtime.consumers.`
  }
}

/**
 * The consumer may have missed events and has no `onGap`.
 *
 * @category errors
 * @since 0.1.0
 */
export class ConsumerGap extends Schema.TaggedError<ConsumerGap>()("ConsumerGap", {
  name: Schema.String,
  channel: Schema.String,
  /** As in `DurableGap`. */
  reason: Schema.Literals(["source", "retention"])
}) {
  override get message(): string {
    return `The consumer "${this.name}" may have missed events of channel "${this.channel}" (${this.reason}). Give it onGap, which brings its work up to date.`
  }
}

export interface ConsumerOptions<E, R> {
  /** The name, 1-200 bytes. */
  readonly name: string
  /** The name of a durable channel. */
  readonly channel: string
  /** Where a consumer without a cursor starts: `now` (default), the `oldest` event kept, or a cursor. */
  readonly start?: "now" | "oldest" | { readonly cursor: string } | undefined
  /** Runs in the transaction that also moves the cursor. Its failure rolls both back and ends the consumer. */
  readonly onBatch: (batch: DurableBatch) => Effect.Effect<void, E, R>
  /** The same where the consumer may have missed events. Default: it fails with `ConsumerGap`. */
  readonly onGap?: ((gap: DurableGap) => Effect.Effect<void, E, R>) | undefined
}

/** Why a consumer ended, beside its own work. */
export type ConsumerError = ConsumerConflict | ConsumerGap | OutboxFault | SqlError

/** Another worker of the same name was faster. */
class Superseded extends Data.TaggedError("Superseded")<{}> {}

/** A transaction of another worker of the same name is open. */
class Occupied extends Data.TaggedError("Occupied")<{}> {}

/** The lock of a worker's transaction. Others can see which session has it, unlike the lock of a row. */
const lock = "hashtextextended('realtime.consumers ' || $1, 0)"

/** Takes the lock if it is free, and reads the cursor. */
const occupyStatement = `select pg_try_advisory_xact_lock(${lock}) free, (select cursor from realtime.consumers where name = $1) cursor`

/** Ends the session that has the lock. */
const evictStatement = `select pg_terminate_backend(l.pid) from pg_locks l
  where l.locktype = 'advisory' and l.granted and l.objsubid = 1
    and l.database = (select d.oid from pg_database d where d.datname = current_database())
    and (l.classid::bigint << 32 | l.objid::bigint) = ${lock}`

/** The connection was lost, or PostgreSQL asks for a retry: the consumer resumes from its cursor. */
const passes = (error: unknown): boolean =>
  isSqlError(error) && (error.isRetryable || /^(08|57P|40)/.test(sqlState(error) ?? ""))

/** Consumes for ever, while no other worker of the name does. Reconnects by itself after a loss of the database. */
export const consumeItems = <E, R>(
  options: ConsumerOptions<E, R>
): Effect.Effect<never, E | ConsumerError, R | OutboxReader | PgClient> =>
  Effect.gen(function* () {
    const { channel, name, onBatch, onGap } = options
    const reader = yield* OutboxReader
    const sql = yield* PgClient
    const client = yield* objects(sql)

    const start = Effect.gen(function* () {
      if (options.start === undefined || options.start === "now") return yield* reader.position
      if (options.start !== "oldest") return options.start.cursor
      // After a crash the outbox has no identity until a reader has opened it.
      yield* reader.position
      const rows = yield* client.unsafe<{ readonly k: string }>(oldestStatement)
      return formatPosition(rows[0]!.k, whole(parsePlace(rows[0])!))
    })

    /** The consumer's cursor in the database, which another worker may have moved. */
    const load = Effect.gen(function* () {
      const read = client.unsafe<{ readonly channel: string; readonly cursor: string }>(
        "select channel, cursor from realtime.consumers where name = $1",
        [name]
      )
      let rows = yield* read
      if (rows.length === 0) {
        yield* client.unsafe(
          "insert into realtime.consumers (name, channel, cursor) values ($1, $2, $3) on conflict do nothing",
          [name, channel, yield* start]
        )
        rows = yield* read
      }
      const row = rows[0]
      if (row !== undefined && row.channel !== channel) {
        return yield* new ConsumerConflict({ name, channel, other: row.channel })
      }
      return row?.cursor
    }).pipe(untraced)

    const move = <E2, R2>(from: string, to: string, work: Effect.Effect<void, E2, R2>) =>
      sql.withTransaction(
        Effect.gen(function* () {
          const [found] = yield* client.unsafe<{ readonly free: boolean; readonly cursor: string }>(
            occupyStatement,
            [name]
          )
          if (found?.free !== true) return yield* new Occupied()
          if (found.cursor !== from) return yield* new Superseded()
          yield* work
          const moved = yield* client.unsafe(
            "update realtime.consumers set cursor = $2, updated_at = clock_timestamp() where name = $1 and cursor = $3 returning name",
            [name, to, from]
          )
          if (moved.length === 0) return yield* new Superseded()
        })
      )

    const clock = yield* Clock.Clock
    const counted = yield* tally
    /** Names it beside other consumers of the process. */
    const itself = JSON.stringify([name, channel])
    /** Until it is handled, also by a later start of this consumer or by another worker. */
    let inHand = counted.failedConsumers.get(itself)
    counted.failedConsumers.delete(itself)
    const workers = () => counted.workers.get(itself) ?? 0
    yield* Effect.acquireRelease(
      Effect.sync(() => counted.workers.set(itself, workers() + 1)),
      () =>
        Effect.sync(() =>
          workers() > 1
            ? counted.workers.set(itself, workers() - 1)
            : counted.workers.delete(itself)
        )
    )
    /** Whether another worker may have the lease, and so come on in the place of this one. */
    let waits = false
    yield* counted.show("consumerLag", () =>
      inHand === undefined || waits ? 0 : secondsSince(clock, inHand.at)
    )

    let warned = false
    /** Ends the transaction of a worker that lost the lease. */
    const evict = Effect.catchIf(
      untraced(client.unsafe(evictStatement, [name])),
      isForbidden,
      () => {
        const known = warned
        warned = true
        return known
          ? Effect.void
          : Effect.logWarning(
              `The consumer "${name}" waits for the transaction of another worker, whose session it may not end: connect all nodes as one user.`
            )
      }
    )

    /** A root of its own, with links to the traces of the publishes. */
    const traced = (item: DurableBatch | DurableGap) =>
      inSpan("realtime.consume", () => {
        const events = item._tag === "Batch" ? item.events : []
        return {
          root: true,
          kind: "consumer",
          links: linksTo(events.map(({ trace }) => trace)),
          attributes: {
            "realtime.consumer": name,
            "realtime.channel": channel,
            "realtime.events": events.length
          }
        }
      })

    /** Handles batches for ever, one at a time, with the permit of `hands`. */
    const round = (
      lease: NodeLease | undefined,
      hands: Semaphore.Semaphore,
      onUp: Effect.Effect<void>
    ) =>
      Effect.gen(function* () {
        let cursor = yield* load
        if (inHand?.cursor !== cursor) inHand = undefined
        // Another worker has handled what one of this process failed at.
        if (counted.failedConsumers.get(itself)?.cursor !== cursor) {
          counted.failedConsumers.delete(itself)
        }
        yield* Stream.runForEach(reader.batches(channel, { from: cursor }), (item) =>
          Effect.gen(function* () {
            // The lease's end interrupts this.
            if (lease?.held() === false) return yield* Effect.never
            const work: Effect.Effect<void, E | ConsumerGap, R> =
              item._tag === "Batch"
                ? onBatch(item)
                : item._tag === "Position"
                  ? Effect.void
                  : onGap === undefined
                    ? Effect.fail(new ConsumerGap({ name, channel, reason: item.reason }))
                    : onGap(item)
            if (item._tag === "Batch") inHand = { at: item.events[0]!.at, cursor }
            // A gap has no time of its own.
            if (item._tag === "Gap") inHand ??= { at: clock.currentTimeMillisUnsafe(), cursor }
            const moved = move(cursor ?? item.cursor, item.cursor, work)
            yield* hands.withPermit(
              item._tag === "Position" ? untraced(moved) : traced(item)(moved)
            )
            inHand = undefined
            counted.failedConsumers.delete(itself)
            cursor = item.cursor
            yield* onUp
          })
        )
      })

    // A transaction whose session is gone fails, and then dies because it cannot roll back.
    const errorsOf = ({ reasons }: Cause.Cause<unknown>) =>
      reasons.map((reason) =>
        reason._tag === "Fail" ? reason.error : reason._tag === "Die" ? reason.defect : undefined
      )
    const rounds: typeof round = (...of) =>
      round(...of).pipe(
        Effect.catchCause((cause) => {
          const errors = errorsOf(cause)
          if (errors.some((error) => error instanceof Superseded)) return Effect.sleep(10)
          if (!errors.some((error) => error instanceof Occupied)) return Effect.failCause(cause)
          return Effect.andThen(of[0]?.held() === true ? evict : Effect.void, Effect.sleep(50))
        }),
        Effect.forever
      )
    /** While this worker has the lease. What it has begun when it loses it ends by itself. */
    const turn = (onUp: Effect.Effect<void>) =>
      Effect.gen(function* () {
        // A conflict shows also where another worker has the lease.
        yield* load
        waits = reader.lease !== undefined
        const lease = yield* reader.lease?.(`${consumerLease}${name}`) ?? Effect.succeed(undefined)
        waits = false
        const hands = yield* Semaphore.make(1)
        // A batch that failed must commit first.
        if (inHand === undefined) yield* onUp
        yield* Effect.raceFirst(
          rounds(lease, hands, onUp),
          lease === undefined ? Effect.never : Effect.andThen(lease.lost, hands.take(1))
        )
      }).pipe(Effect.scoped, Effect.forever)
    const reconnecting = yield* Reconnecting.make(Backoff.link, {
      fromStart: true,
      outage: new Outage({
        lost: `The consumer "${name}" does not come on`,
        back: `The consumer "${name}" goes on`
      })
    })
    return yield* reconnecting(turn, (cause) => {
      const passing = errorsOf(cause).find(passes)
      if (passing === undefined || Cause.hasInterrupts(cause)) {
        return Effect.failCause(cause as Cause.Cause<E | ConsumerError>)
      }
      return Effect.succeed({ reason: sqlMessage(passing) })
    }).pipe(
      Effect.onError((cause) =>
        Effect.sync(() => {
          if (Cause.hasInterruptsOnly(cause)) return
          // Before its first batch it leaves nothing behind that another worker here does not see.
          if (inHand?.cursor === undefined && workers() > 1) return
          const at = clock.currentTimeMillisUnsafe()
          counted.failedConsumers.set(itself, inHand ?? { at, cursor: undefined })
        })
      )
    )
  }).pipe(Effect.scoped)
