/**
 * Named consumers: each has a cursor in the database, which moves in the transaction of the work itself.
 *
 * A consumer locks its row first and compares the cursor, so exactly one of several workers with one name
 * handles each batch. The work and the new cursor are committed together or not at all: what a consumer
 * writes to this database happens exactly once.
 */
import { PgClient } from "@effect/sql-pg/PgClient"
import * as Cause from "effect/Cause"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { isSqlError, type SqlError } from "effect/sql/SqlError"
import * as Stream from "effect/Stream"
import * as Backoff from "../../../Backoff.ts"
import { type DurableBatch, type DurableGap, OutboxReader } from "../../OutboxReader.ts"
import type { OutboxFault } from "./outboxErrors.ts"
import { sqlMessage, sqlState } from "../link/sqlState.ts"
import { oldestStatement, parsePlace } from "./outbox.ts"
import { formatPosition, whole } from "./position.ts"
import { objects } from "../sql/objects.ts"
import * as Reconnecting from "../reconnecting.ts"

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

/** The connection was lost, or PostgreSQL asks for a retry: the consumer resumes from its cursor. */
const passes = (error: unknown): boolean =>
  isSqlError(error) && (error.isRetryable || /^(08|57P|40)/.test(sqlState(error) ?? ""))

/** Consumes for ever. Reconnects by itself after a loss of the database. */
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
    })

    const move = <E2, R2>(from: string, to: string, work: Effect.Effect<void, E2, R2>) =>
      sql.withTransaction(
        Effect.gen(function* () {
          const held = yield* client.unsafe<{ readonly cursor: string }>(
            "select cursor from realtime.consumers where name = $1 for update",
            [name]
          )
          if (held[0]?.cursor !== from) return yield* new Superseded()
          yield* work
          yield* client.unsafe(
            "update realtime.consumers set cursor = $2, updated_at = clock_timestamp() where name = $1",
            [name, to]
          )
        })
      )

    const round = Effect.gen(function* () {
      let cursor = yield* load
      yield* Stream.runForEach(reader.batches(channel, { from: cursor }), (item) =>
        Effect.gen(function* () {
          const work: Effect.Effect<void, E | ConsumerGap, R> =
            item._tag === "Batch"
              ? onBatch(item)
              : item._tag === "Position"
                ? Effect.void
                : onGap === undefined
                  ? Effect.fail(new ConsumerGap({ name, channel, reason: item.reason }))
                  : onGap(item)
          yield* move(cursor ?? item.cursor, item.cursor, work)
          cursor = item.cursor
        })
      )
    })

    // A transaction whose session is gone fails, and then dies because it cannot roll back.
    const errorsOf = ({ reasons }: Cause.Cause<unknown>) =>
      reasons.map((reason) =>
        reason._tag === "Fail" ? reason.error : reason._tag === "Die" ? reason.defect : undefined
      )
    const rounds = round.pipe(
      Effect.catchCause((cause) =>
        errorsOf(cause).some((error) => error instanceof Superseded)
          ? Effect.sleep(10)
          : Effect.failCause(cause)
      ),
      Effect.forever
    )
    const reconnecting = yield* Reconnecting.make(Backoff.link, { fromStart: true })
    return yield* reconnecting(
      () => rounds,
      (cause) => {
        const passing = errorsOf(cause).find(passes)
        if (passing === undefined || Cause.hasInterrupts(cause)) {
          return Effect.failCause(cause as Cause.Cause<E | ConsumerError>)
        }
        return Effect.succeed({
          text: (delay) => `The consumer "${name}" retries in ${delay} ms: ${sqlMessage(passing)}`
        })
      }
    )
  })
