/** What the server reads for its pages. */
// #region orders
import type { RealtimeServer } from "effect-realtime/node"
import { Order } from "./channels.ts"

declare global {
  /** Next.js bundles the pages apart from server.ts: the two have only what is global in common. */
  var realtime: Pick<RealtimeServer, "snapshot"> | undefined
}

export const readOrders = () => {
  if (globalThis.realtime === undefined) throw new Error("start server.ts instead of `next start`")
  return globalThis.realtime.snapshot("select * from orders order by id", [], { row: Order })
}
// #endregion
