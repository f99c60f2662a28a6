/** The database of the desk: its table, and the triggers that its definition asks for. */
// #region database
import { PgClient } from "@effect/sql-pg"
import { Effect, Layer } from "effect"
import { OutboxReader, PgInstaller, PgNotificationSource, Realtime } from "effect-realtime/server"
import * as Schema from "effect/Schema"
import * as Channel from "effect-realtime/Channel"
import { ticketsOf } from "./channels.ts"

/** The tickets of which other people may read since a change. The door alone reads it. */
export const readersChanged = Channel.tableUpdates("tickets", Schema.Struct({ id: Schema.Int }), {
  channel: "table_updates_ticket_readers"
})

const createTables = PgClient.PgClient.use(
  (sql) => sql`create table if not exists tickets (
    id int generated always as identity primary key,
    team text not null,
    title text not null,
    status text not null default 'open',
    restricted boolean not null default false
  )`
)

/** Everything that the desk needs of a database. Provide the `PgClient` of yours. */
export const Database = Realtime.layer().pipe(
  Layer.provideMerge([PgNotificationSource.layer(), OutboxReader.layer()]),
  Layer.provide(
    PgInstaller.layer({
      watch: [
        ticketsOf,
        {
          channel: readersChanged,
          table: "tickets",
          columns: ["id", "team", "restricted"],
          when: { insert: "false" }
        }
      ]
    })
  ),
  Layer.provide(Layer.effectDiscard(createTables))
)
// #endregion

/** The tickets of a team, by their ids. */
export const open = (team: string, title: string, restricted = false) =>
  PgClient.PgClient.use((sql) =>
    Effect.map(
      sql<{
        readonly id: number
      }>`insert into tickets ${sql.insert({ team, title, restricted })} returning id`,
      ([row]) => row!.id
    )
  )
