/** What the HTTP server of the gateway answers: its health and its metrics, without names or errors. */
import * as Effect from "effect/Effect"
import * as PrometheusMetrics from "effect/observability/PrometheusMetrics"
import type { RequestListener } from "node:http"

const text = "text/plain; charset=utf-8"
const json = "application/json"

const metrics = () => ({
  status: 200,
  type: "text/plain; version=0.0.4; charset=utf-8",
  body: Effect.runSync(PrometheusMetrics.format())
})

/**
 * Answers `/health` with 200 while the node accepts clients and its events flow, else with 503; `/live` with
 * 200 while the process runs; `/metrics` in the text format of Prometheus.
 */
export const answers = (isReady: () => boolean): RequestListener => {
  const health = () =>
    isReady()
      ? { status: 200, type: json, body: `{"status":"ready"}\n` }
      : { status: 503, type: json, body: `{"status":"not ready"}\n` }
  const live = () => ({ status: 200, type: json, body: `{"status":"live"}\n` })
  const routes = new Map([
    ["/health", health],
    ["/live", live],
    ["/metrics", metrics]
  ])
  const answer = (method: string | undefined, url: string) => {
    const route = routes.get(url.split("?")[0]!)
    if (route === undefined) return { status: 404, type: text, body: "Not found.\n" }
    const reads = method === "GET" || method === "HEAD"
    return reads ? route() : { status: 405, type: text, body: "Only GET is allowed.\n" }
  }
  return ({ method, url }, response) => {
    const { body, status, type } = answer(method, url ?? "/")
    response.writeHead(status, { "content-type": type, "cache-control": "no-store" }).end(body)
  }
}
