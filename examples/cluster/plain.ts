/** A node of a cluster for a plain Node server, joined with the others over NATS. */
// #region plain
import { Nats } from "effect-realtime/nats"
import { RealtimeServer } from "effect-realtime/node"
import { createServer } from "node:http"

export const http = createServer()

export const realtime = new RealtimeServer(http, process.env["DATABASE_URL"], {
  authorize: () => true,
  nodes: Nats.nodes({ servers: ["nats-1:4222", "nats-2:4222"], credentialsFile: "node.creds" })
})
// #endregion
