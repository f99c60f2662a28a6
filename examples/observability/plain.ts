// #region plain
import { Context } from "effect"
import { PrometheusMetrics } from "effect/observability"
import { createServer } from "node:http"

/** For the class of `effect-realtime/node`: an Express route does the same. */
export const http = createServer((request, response) => {
  if (request.url !== "/metrics") return response.writeHead(404).end()
  response.setHeader("content-type", "text/plain; version=0.0.4")
  return response.end(PrometheusMetrics.formatUnsafe(Context.empty()))
})
// #endregion
