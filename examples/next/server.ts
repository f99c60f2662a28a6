/** Replaces `next dev` and `next start`. */
// #region server
import next from "next"
import { Orders } from "./channels.ts"
import { serve } from "./serve.ts"

const { http, realtime } = await serve(next, process.env["DATABASE_URL"], {
  channels: [Orders],
  authorize: ({ action }) => action === "subscribe" // public; see Security
})
globalThis.realtime = realtime // for orders.ts
await realtime.ready
http.listen(process.env["PORT"] ?? 3000)
process.once("SIGTERM", () => realtime.close().then(() => process.exit()))
// #endregion
