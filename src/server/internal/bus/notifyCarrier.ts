/**
 * A carrier over PostgreSQL: one NOTIFY channel. Texts arrive through the link of the `NotificationSource`,
 * and leave through a session of their own.
 */
import type { PgClient } from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { lost, type NotificationSource } from "../../NotificationSource.ts"
import { busChannel, SchemaName } from "../sql/schemaName.ts"
import * as BusSession from "./busSession.ts"
import type { Carrier } from "./carrier.ts"

/** PostgreSQL takes less than 8,000 bytes. */
const maxBytes = 7999

export const make = (
  source: NotificationSource["Service"],
  sql: PgClient
): Effect.Effect<Carrier, never, Scope.Scope> =>
  Effect.gen(function* () {
    const channel = busChannel(yield* SchemaName)
    const notify = yield* BusSession.make(sql, source.state)
    return {
      maxBytes: () => maxBytes,
      send: (text) => Effect.asVoid(notify(channel, text)),
      receive: (hear) =>
        source.listen(channel, (heard) => (heard === lost ? undefined : hear(heard))),
      state: source.state,
      renew: source.renew ?? Effect.void
    }
  })
