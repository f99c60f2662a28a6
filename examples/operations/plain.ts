// #region plain
import type { RealtimeServer } from "effect-realtime/node"
import type { IncomingMessage, ServerResponse } from "node:http"

/** For the class of `effect-realtime/node`: an Express route does the same. */
export const health =
  (server: RealtimeServer) => (request: IncomingMessage, response: ServerResponse) => {
    const isUp = request.url === "/health/live" || server.isReady()
    response.writeHead(isUp ? 200 : 503).end()
  }
// #endregion
