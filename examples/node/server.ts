// #region node
import * as Schema from "effect/Schema"
import * as Channel from "effect-realtime/Channel"
import { RealtimeServer } from "effect-realtime/node"
import { createServer } from "node:http"

const http = createServer((_, response) => response.end("your Express, Fastify or node:http app"))
const realtime = new RealtimeServer(http, process.env["DATABASE_URL"], {
  channels: [Channel.make("my-channel", Schema.Unknown, { publish: true })],
  authorize: ({ action, channel }) => action === "subscribe" || channel === "my-channel"
})
http.listen(process.env["PORT"] ?? 3000)
process.once("SIGTERM", () => realtime.close().then(() => http.close()))
// #endregion
