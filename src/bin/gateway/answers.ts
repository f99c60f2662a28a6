/** What the HTTP server of the gateway answers: its health and its metrics, without names or errors. */
import type * as Context from "effect/Context"
import * as PrometheusMetrics from "effect/observability/PrometheusMetrics"
import type { RequestListener } from "node:http"
import { health } from "../../internal/defaults.ts"
import { withoutSlash } from "../../server/internal/door/claimedPaths.ts"
import { type HealthAnswer, liveness, readiness } from "../../server/internal/door/health.ts"

const text = "text/plain; charset=utf-8"
const { path } = health

const inJson = ({ body, status }: HealthAnswer) => ({
  status,
  type: "application/json",
  body: JSON.stringify(body)
})

/** The registry is that of the program, in which its parts count. */
const metricsOf = (context: Context.Context<never>) => () => ({
  status: 200,
  type: "text/plain; version=0.0.4; charset=utf-8",
  body: PrometheusMetrics.formatUnsafe(context)
})

/**
 * Answers `/health` with 200 while the node accepts clients and its events flow, else with 503; `/health/live` with
 * 200 while the process runs; `/metrics` in the text format of Prometheus; a request at the path of the
 * WebSocket with 426.
 */
export const answers = (
  isReady: () => boolean,
  socketPath: string,
  context: Context.Context<never>
): RequestListener => {
  const ready = () => inJson(readiness(isReady()))
  const live = () => inJson(liveness)
  const routes = new Map([
    [path, ready],
    [`${path}/live`, live],
    ["/metrics", metricsOf(context)]
  ])
  const answer = (method: string | undefined, url: string) => {
    const at = url.split("?")[0]!
    if (withoutSlash(at) === withoutSlash(socketPath)) {
      return {
        status: 426,
        type: text,
        body: "This is a WebSocket: connect with ws:// or wss://.\n"
      }
    }
    const route = routes.get(at)
    if (route === undefined) return { status: 404, type: text, body: "Not found.\n" }
    const reads = method === "GET" || method === "HEAD"
    return reads ? route() : { status: 405, type: text, body: "Only GET is allowed.\n" }
  }
  return ({ method, url }, response) => {
    const { body, status, type } = answer(method, url ?? "/")
    const upgrade = status === 426 ? { upgrade: "websocket" } : {}
    const headers = { "content-type": type, "cache-control": "no-store", ...upgrade }
    response.writeHead(status, headers).end(body)
  }
}
