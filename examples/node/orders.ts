/* oxlint-disable no-await-in-loop -- one query of a transaction after the other */
// #region snapshot
import type { RealtimeServer } from "effect-realtime/node"
import { DurableOrders, Order } from "../channels.ts"

/** Answer your API with it as JSON: the page follows the channel from its cursor. */
export const newOrders = (realtime: Pick<RealtimeServer, "snapshot">) =>
  realtime.snapshot("select * from orders where status = $1", ["new"], { row: Order })
// #endregion

// #region consume
/** A copy of the table for another service: each change once, also with several nodes. */
export const copyOrders = (realtime: Pick<RealtimeServer, "consume">) =>
  realtime.consume(DurableOrders, {
    name: "copy",
    start: "oldest",
    onEvents: async (events, { query }) => {
      for (const event of events) {
        if (event._tag === "Gap") {
          await query("delete from copies")
          await query("insert into copies select id, status from orders")
        } else if (event.payload.operation === "DELETE") {
          await query("delete from copies where id = $1", [event.payload.data.id])
        } else {
          await query(
            `insert into copies values ($1, $2)
              on conflict (id) do update set status = excluded.status`,
            [event.payload.data.id, event.payload.data.status]
          )
        }
      }
    },
    onError: (error) => console.error("tried again soon:", error)
  })
// #endregion
