/** The checks of `doctor` of the server: old transactions, the notification queue, autovacuum. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { fullQueue } from "../../../server/internal/outbox/upkeep.ts"
import { type Check, fix, ok, type Patient, skipped, type Verdict } from "./verdict.ts"

interface Open {
  readonly who: string
  readonly minutes: number
  readonly cure: string
}

/** Of all databases: a snapshot has the transactions of each. Never the text of a query. */
const openStatement = `select format('session %s (%s, role %s, %s)', a.pid, coalesce(nullif(a.application_name, ''), 'no name'), a.usename, a.state) as who,
  extract(epoch from clock_timestamp() - a.xact_start)::float8 / 60 as minutes, format('select pg_terminate_backend(%s)', a.pid) as cure
from pg_stat_activity a where a.pid <> pg_backend_pid() and a.backend_type = 'client backend'
  and a.xact_start < clock_timestamp() - make_interval(secs => $1)
union all
select format('the prepared transaction %L (role %s)', p.gid, p.owner), extract(epoch from clock_timestamp() - p.prepared)::float8 / 60,
  format('rollback prepared %L', p.gid)
from pg_prepared_xacts p where p.prepared < clock_timestamp() - make_interval(secs => $1)
order by 2 desc limit 10`

const counted = (count: number, unit: string) => `${count} ${unit}${count === 1 ? "" : "s"}`

const lastingOf = (minutes: number): string =>
  minutes < 2 ? counted(Math.round(minutes * 60), "second") : counted(Math.round(minutes), "minute")

/** Exactly, in the words of the flags: 5 minutes. */
const inWords = (duration: Duration.Duration): string => {
  const { days, hours, millis, minutes, seconds } = Duration.parts(duration)
  const parts = [
    [days, "day"],
    [hours, "hour"],
    [minutes, "minute"],
    [seconds + millis / 1000, "second"]
  ] as const
  const said = parts.filter(([count]) => count > 0).map(([count, unit]) => counted(count, unit))
  return said.join(" ") || counted(0, "second")
}

const transactions: Check = {
  name: "transactions",
  look: Effect.fnUntraced(function* ({ oldTransaction, pool }: Patient) {
    const open = yield* pool.unsafe<Open>(openStatement, [Duration.toSeconds(oldTransaction)])
    if (open.length > 0) {
      return open.map(({ cure, minutes, who }): Verdict =>
        fix(
          `A transaction is open for ${lastingOf(minutes)}: ${who}. Messages that it may still see are neither pruned nor vacuumed.`,
          `End it, or run ${cure}.`
        )
      )
    }
    const [row] = yield* pool<{ readonly sees: boolean; readonly name: string }>`
      select pg_has_role(current_user, 'pg_read_all_stats', 'usage') as sees, current_user::text as name`
    return row?.sees === true
      ? ok(`none is open for more than ${inWords(oldTransaction)}`)
      : skipped(
          `only sessions of role ${row?.name} can be seen, and none is old; to see all, grant pg_read_all_stats to it`
        )
  })
}

const queue: Check = {
  name: "queue",
  look: Effect.fnUntraced(function* ({ pool }: Patient) {
    const [row] = yield* pool<{ readonly usage: number }>`
      select pg_notification_queue_usage()::float8 as usage`
    const usage = row?.usage ?? 0
    if (usage <= fullQueue) return ok(`the notification queue is ${Math.round(usage * 100)} % full`)
    // Any transaction may be of a session that listens. An operation of the server itself never is.
    const open = yield* pool.unsafe<Open>(openStatement, [0])
    const text = `The notification queue is ${Math.round(usage * 100)} % full: a session that listens has a transaction open. When it is full, every transaction that notifies fails.`
    return {
      ...fix(
        text,
        open.length === 0
          ? "The transaction is over, or this role may not see it: grant pg_read_all_stats to it, and look again."
          : `End the transaction of the session that listens, the oldest first: ${open[0]!.cure}`
      ),
      lines: open.map(({ cure, minutes, who }) => `open for ${lastingOf(minutes)}: ${who}; ${cure}`)
    }
  })
}

/** Dead rows from which the outbox is not vacuumed often enough: ten times the threshold of the install. */
const manyDead = 100_000

interface Vacuum {
  readonly on: boolean
  readonly enabled: boolean
  readonly dead: number
}

const autovacuum: Check = {
  name: "autovacuum",
  look: Effect.fnUntraced(function* ({ pool, schema }: Patient) {
    const [row] = yield* pool<Vacuum>`
      select current_setting('autovacuum')::boolean and current_setting('track_counts')::boolean as on,
        not exists (select from unnest(c.reloptions) o(text) where o.text ~* '^autovacuum_enabled=(f|of|n|0)') as enabled,
        coalesce(s.n_dead_tup, 0)::float8 as dead
      from (select 1) one
      left join pg_stat_all_tables s on s.schemaname = ${schema} and s.relname = 'messages'
      left join pg_class c on c.oid = s.relid`
    const { dead, enabled, on } = row!
    if (!on) {
      return fix(
        "Autovacuum is off: tables grow without bound, and the server stops at last.",
        "Set autovacuum = on and track_counts = on in postgresql.conf, and reload it."
      )
    }
    if (!enabled) {
      return fix(
        `Autovacuum is off for ${schema}.messages, which grows with each message.`,
        `alter table ${schema}.messages reset (autovacuum_enabled)`
      )
    }
    return dead > manyDead
      ? fix(
          `${schema}.messages has ${dead} dead rows: autovacuum does not keep up with it.`,
          "Look for an old transaction, or raise autovacuum_max_workers and the cost limit."
        )
      : ok(`on, and the outbox has ${dead} dead rows`)
  })
}

export const serverChecks: ReadonlyArray<Check> = [transactions, queue, autovacuum]
