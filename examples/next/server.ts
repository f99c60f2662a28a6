/** Replaces `next dev` and `next start`. */
// #region server
import type { RealtimeEvent } from "effect-realtime"
import next from "next"
import { Order, Orders } from "./channels.ts"
import { serve } from "./serve.ts"

const { http, realtime } = await serve(next, process.env["DATABASE_URL"], {
  channels: [Orders],
  authorize: ({ action }) => action === "subscribe" // public; see Security
})

declare global {
  /** Next.js bundles the pages apart from this file: the two have only what is global in common. */
  var readOrders: () => Promise<RealtimeEvent.Snapshot<ReadonlyArray<typeof Order.Type>>>
}
globalThis.readOrders = () =>
  realtime.snapshot("select * from orders order by id", [], { row: Order })

await realtime.ready
http.listen(process.env["PORT"] ?? 3000)
process.once("SIGTERM", () => realtime.close().then(() => process.exit()))
// #endregion
