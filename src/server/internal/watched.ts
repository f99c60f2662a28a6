/**
 * Looks whether the tables of opened channels are watched with the channels' own delivery.
 *
 * A live channel hears nothing of a table that writes to the outbox, and the other way round, and
 * PostgreSQL reports no error: so it is told here, as a warning. In the background, at most once a
 * second, once per channel; what cannot be found out is left.
 */
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import type { SqlClient } from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import type { Delivery } from "../../ChannelBase.ts"

interface Watched {
  readonly channel: string
  readonly table: string
  readonly delivery: Delivery
}

/** The catalogs say whether the next may be asked: else the database's log would fill with errors. */
const readable = `select from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname = 'realtime' and c.relname = 'watched'
  and has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'select')`

const others = `select w.channel, w.rel::text as table, w.delivery from realtime.watched w
where w.delivery <> $1 and w.channel in (select json_array_elements_text($2::json)) order by w.channel`

/** The tables that are watched for these channels with another delivery. */
export const differing = (
  sql: SqlClient,
  channels: ReadonlyArray<string>,
  delivery: Delivery
): Effect.Effect<ReadonlyArray<Watched>, SqlError> =>
  Effect.gen(function* () {
    const client = sql.withoutTransforms()
    if ((yield* client.unsafe(readable)).length === 0) return []
    return yield* client.unsafe<Watched>(others, [delivery, JSON.stringify(channels)])
  })

const warning = (own: Delivery, { channel, delivery, table }: Watched): string =>
  `Changes of table ${table} do not reach the ${own} channel "${channel}": the table is watched with delivery ${delivery}. Define the channel with { delivery: "${delivery}" }, or watch the table with delivery ${own} (PgInstaller.watch, or npx effect-realtime sql).`

/** Gives what to call when a channel of this delivery is opened; it looks once `up` completes. */
export const make = (
  sql: SqlClient,
  delivery: Delivery,
  up: Effect.Effect<unknown, unknown>
): Effect.Effect<(channel: string) => void, never, Scope.Scope> =>
  Effect.gen(function* () {
    const opened = yield* Queue.unbounded<string>()
    const warned = new Set<string>()
    const look = Effect.gen(function* () {
      const channels = yield* Queue.takeAll(opened)
      yield* up
      for (const found of yield* differing(sql, channels, delivery)) {
        if (warned.has(found.channel)) continue
        warned.add(found.channel)
        yield* Effect.logWarning(warning(delivery, found))
      }
    })
    yield* look.pipe(
      Effect.catch((error) => Effect.logDebug("The watched tables cannot be read", error)),
      Effect.andThen(Effect.sleep("1 second")),
      Effect.forever,
      Effect.forkScoped
    )
    return (channel) => void Queue.offerUnsafe(opened, channel)
  })
