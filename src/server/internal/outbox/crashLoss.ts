/**
 * What a crash, a failover or a restore may have taken: looking, and waiting so that it cannot happen.
 *
 * The witness of a position tells that everything up to it is there in the order of commits. With
 * `synchronous_commit = off` (of one session is enough), and on a standby that was behind, a transaction
 * that committed after the witness may be lost although it was seen and its number is lower. Its events
 * were told and are gone. A node that remembers them finds out here; one that does not cannot.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { SqlError } from "effect/sql/SqlError"
import type { PgLink } from "../link/pgLink.ts"
import { goneBy, witnessArguments, witnessStatement } from "./outbox.ts"
import type { Place } from "./position.ts"
import type { DurableBatch, DurableGap } from "./tail.ts"

/** Why nothing is known at a position, because its witness is gone; `undefined` when that is there. */
export const gapAt = (
  link: PgLink,
  { last, normal }: Place,
  within: Duration.Duration
): Effect.Effect<DurableGap["reason"] | undefined, SqlError> =>
  Effect.map(link.query(witnessStatement, witnessArguments(last), within), (rows) => {
    const gone = goneBy(rows[0], normal)
    return gone === "witness" ? "source" : gone
  })

/** Events that are looked up in one statement. */
const most = 10_000

/** What the horizon sees may be pruned, which is no loss. */
const goneStatement = `select e.i::text i from unnest($1::bigint[], $2::xid8[]) e(i, t), realtime.horizon h
where not exists (select from realtime.messages m where m.id = e.i and m.txid = e.t)
  and not pg_visible_in_snapshot(e.t, h.snapshot)`

/** The channels of which something that was handed out is not there any more. */
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

/** Between two looks at the WAL, in milliseconds; the WAL writer flushes every 200 ms by default. */
const lookEvery = 5
/** After so many looks it is pushed. */
const looks = 60

/**
 * Waits until the WAL is on disk up to a point. Where nobody commits with a flush, and the rest of a page
 * is no commit, nothing would flush it for long: then a record of our own does, at its commit.
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
