/**
 * Detects what a crash, a failover or a restore may have lost, and waits for flushes to prevent it.
 *
 * The witness of a position proves that everything up to it in the order of commits is there. With
 * `synchronous_commit = off` (one session is enough), or on a standby that was behind, the database may
 * lose a transaction that committed after the witness, although a node saw it and its number is lower.
 * Clients have received its events. Only a node that remembers those events detects the loss here.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { SqlError } from "effect/sql/SqlError"
import type { PgLink } from "../link/pgLink.ts"
import { goneBy, witnessArguments, witnessStatement } from "./outbox.ts"
import type { Place } from "./position.ts"
import type { DurableBatch, DurableGap } from "./tail.ts"

/** The reason of a gap when the witness of a position is gone; `undefined` when it is there. */
export const gapAt = (
  link: PgLink,
  { last, normal }: Place,
  within: Duration.Duration
): Effect.Effect<DurableGap["reason"] | undefined, SqlError> =>
  Effect.map(link.query(witnessStatement, witnessArguments(last), within), (rows) => {
    const gone = goneBy(rows[0], normal)
    return gone === "witness" ? "source" : gone
  })

/** The most events looked up in one statement. */
const most = 10_000

/** Messages that the horizon sees may be pruned, which is no loss. */
const goneStatement = `select e.i::text i from unnest($1::bigint[], $2::xid8[]) e(i, t), realtime.horizon h
where not exists (select from realtime.messages m where m.id = e.i and m.txid = e.t)
  and not pg_visible_in_snapshot(e.t, h.snapshot)`

/** The channels with events that were handed out and are gone. */
export const channels = Effect.fnUntraced(function* (
  link: PgLink,
  remembered: ReadonlyArray<DurableBatch>,
  within: Duration.Duration
) {
  const found = new Set<string>()
  const events = remembered.flatMap(({ channel, events }) =>
    events.map(({ id, tx }) => ({ channel, id, tx }))
  )
  for (let from = 0; from < events.length; from += most) {
    const some = events.slice(from, from + most)
    const rows = yield* link.query(
      goneStatement,
      [`{${some.map(({ id }) => id).join(",")}}`, `{${some.map(({ tx }) => tx).join(",")}}`],
      within
    )
    const gone = new Set(rows.map((row) => String(row["i"])))
    for (const { channel, id } of some) if (gone.has(id)) found.add(channel)
  }
  return found
})

/** Milliseconds between two looks at the WAL; the WAL writer flushes every 200 ms by default. */
const lookEvery = 5
/** After this many looks a commit of our own flushes the WAL. */
const looks = 60

/**
 * Waits until the WAL is on disk up to a position. Where no session commits with a flush, nothing may flush
 * the WAL for long: then a record of our own does, at its commit.
 */
export const flushed = Effect.fnUntraced(function* (
  link: PgLink,
  written: string,
  within: Duration.Duration
) {
  for (let look = 1; ; look++) {
    const rows = yield* link.query(
      "select pg_current_wal_flush_lsn() >= $1::pg_lsn flushed",
      [written],
      within
    )
    if (rows[0]?.["flushed"] === true) return
    if (look % looks === 0) {
      yield* link.query(
        "select pg_logical_emit_message(true, 'effect-realtime', ''), set_config('synchronous_commit', 'local', true)",
        [],
        within
      )
    }
    yield* Effect.sleep(lookEvery)
  }
})
