/**
 * What operators ask of the outbox, as statements with the rights of a node: how large it is, which node holds
 * which lease, and where each consumer stands.
 */
import * as Effect from "effect/Effect"
import type { SqlClient } from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import * as Cursor from "../../../internal/cursorText.ts"
import { objects } from "./objects.ts"

/** Messages behind a cursor that are counted at most. */
const maxCounted = 100_000

export interface OutboxFacts {
  /** From the oldest to the newest id: at most so many rows. */
  readonly rows: number
  /** On disk, with the indexes. */
  readonly bytes: number
  /** Age of the oldest message in seconds; `undefined` without messages. */
  readonly oldest: number | undefined
}

export const outboxFacts = (sql: SqlClient): Effect.Effect<OutboxFacts, SqlError> =>
  Effect.gen(function* () {
    const client = yield* objects(sql)
    const [row] = yield* client.unsafe<{
      readonly rows: number
      readonly bytes: number
      readonly oldest: number | null
    }>(
      `select (select coalesce(max(m.id) - min(m.id) + 1, 0) from realtime.messages m)::float8 as rows, pg_total_relation_size('realtime.messages')::float8 as bytes,
  (select extract(epoch from clock_timestamp() - m.created_at) from realtime.messages m order by m.id limit 1)::float8 as oldest`
    )
    const { bytes, oldest, rows } = row!
    return { rows, bytes, oldest: oldest ?? undefined }
  })

/** The names of the nodes that hold a lease now, by its name. */
export const holders = (sql: SqlClient): Effect.Effect<ReadonlyMap<string, string>, SqlError> =>
  Effect.gen(function* () {
    const client = yield* objects(sql)
    const rows = yield* client.unsafe<{ readonly name: string; readonly node: string }>(
      "select h.name, h.node from realtime.holders() h"
    )
    return new Map(rows.map(({ name, node }) => [name, node]))
  })

/** How far a consumer is behind. */
interface Lag {
  /** Messages of its channel after its cursor. */
  readonly messages: number
  /** Whether there are more: the count ended at `maxCounted` messages of all channels. */
  readonly isMore: boolean
  /** Age of the oldest of them in seconds, or 0. */
  readonly seconds: number
}

export interface ConsumerFacts {
  readonly name: string
  readonly channel: string
  readonly cursor: string
  /** Seconds since the cursor moved. */
  readonly moved: number
  /** `undefined` for a cursor that is none of this database as it is now. */
  readonly lag: Lag | undefined
}

/** In the middle of a page ($3, $4) the messages up to an id were handed out too. */
const lagStatement = `select count(*)::float8 as scanned, (count(*) filter (where m.channel = $1))::float8 as messages,
  greatest(0, coalesce(extract(epoch from clock_timestamp() - min(m.created_at) filter (where m.channel = $1)), 0))::float8 as seconds
  from (
    select m.channel, m.created_at from realtime.messages m
    where m.txid >= pg_snapshot_xmin($2::pg_snapshot) and not pg_visible_in_snapshot(m.txid, $2::pg_snapshot)
      and not (m.id <= $4::bigint and pg_visible_in_snapshot(m.txid, $3::pg_snapshot))
    order by m.txid, m.id limit ${maxCounted}) m`

export const consumerFacts = (
  sql: SqlClient
): Effect.Effect<ReadonlyArray<ConsumerFacts>, SqlError> =>
  Effect.gen(function* () {
    const client = yield* objects(sql)
    const [present] = yield* client.unsafe<{ readonly identity: string | null }>(
      "select realtime.identity() as identity"
    )
    const rows = yield* client.unsafe<Omit<ConsumerFacts, "lag">>(
      "select c.name, c.channel, c.cursor, extract(epoch from clock_timestamp() - c.updated_at)::float8 as moved from realtime.consumers c order by c.name"
    )
    return yield* Effect.forEach(rows, (row) =>
      Effect.gen(function* (): Effect.fn.Return<ConsumerFacts, SqlError> {
        const cursor = Cursor.readDurable(row.cursor)
        if (cursor === undefined || cursor.identity !== present?.identity) {
          return { ...row, lag: undefined }
        }
        const { base, id, next = base } = cursor.position
        const [lag] = yield* client.unsafe<{
          readonly scanned: number
          readonly messages: number
          readonly seconds: number
        }>(lagStatement, [
          row.channel,
          Cursor.formatSnapshot(base),
          Cursor.formatSnapshot(next),
          String(id)
        ])
        const { messages, scanned, seconds } = lag!
        return { ...row, lag: { messages, seconds, isMore: scanned === maxCounted } }
      })
    )
  })
