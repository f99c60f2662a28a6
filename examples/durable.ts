import { PgClient } from "@effect/sql-pg"
import { Config, Effect, Layer, Stream } from "effect"
import { OutboxReader, PgInstaller, PgNotificationSource, Realtime } from "effect-realtime/server"
import { DurableOrders, type Order } from "./channels.ts"

// #region layers
export const Durable = Realtime.layer().pipe(
  Layer.provide([PgNotificationSource.layer(), OutboxReader.layer()]),
  Layer.provide(PgInstaller.layer({ watch: [{ channel: DurableOrders }] })),
  Layer.provideMerge(PgClient.layerConfig({ url: Config.Redacted("DATABASE_URL") }))
)
// #endregion

// #region snapshot
export const readThenFollow = Effect.gen(function* () {
  const sql = yield* PgClient.PgClient
  const { cursor, value } = yield* Realtime.snapshot(sql<typeof Order.Type>`select * from orders`)
  yield* Effect.log(`${value.length} orders now, and from here on:`)
  yield* Realtime.events(DurableOrders, { from: cursor }).pipe(
    Stream.runForEach((event) => Effect.log(event))
  )
}) // no change is missed, and none is seen twice
// #endregion

// #region consumer
export const ledger = Realtime.consume(DurableOrders, {
  name: "ledger",
  onEvents: (events) =>
    Effect.forEach(events, (event) =>
      event._tag === "Gap"
        ? Effect.die("re-read the table here")
        : PgClient.PgClient.use((sql) => sql`insert into ledger values (${event.id})`)
    ).pipe(Effect.asVoid)
}) // the rows and the cursor are committed together: exactly once
// #endregion
