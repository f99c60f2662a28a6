// #region transaction
import { PgClient } from "@effect/sql-pg"
import { Effect } from "effect"
import { Realtime } from "effect-realtime/server"
import { Notices } from "../channels.ts"

export const ship = (orderId: number) =>
  PgClient.PgClient.use((sql) =>
    sql.withTransaction(
      Effect.gen(function* () {
        yield* sql`update orders set status = 'shipped' where id = ${orderId}`
        yield* Realtime.publish(Notices, { type: "info", message: `Order ${orderId} shipped` })
      })
    )
  ) // published at commit, and not after a rollback
// #endregion
