/** What the HTTP server of the gateway answers: its health and its metrics, without names or errors. */
import * as Effect from "effect/Effect"
import * as PrometheusMetrics from "effect/observability/PrometheusMetrics"
import type { RequestListener } from "node:http"
import { health } from "../../internal/defaults.ts"
import { type HealthAnswer, liveness, readiness } from "../../server/internal/door/health.ts"

const text = "text/plain; charset=utf-8"
const { path } = health

const inJson = ({ body, status }: HealthAnswer) => ({
  status,
  type: "application/json",
  body: JSON.stringify(body)
})

const metrics = () => ({
  status: 200,
  type: "text/plain; version=0.0.4; charset=utf-8",
  body: Effect.runSync(PrometheusMetrics.format())
})

/**
 * Answers `/health` with 200 while the node accepts clients and its events flow, else with 503; `/health/live` with
 * 200 while the process runs; `/metrics` in the text format of Prometheus.
 */
export const answers = (isReady: () => boolean): RequestListener => {
  const ready = () => inJson(readiness(isReady()))
  const live = () => inJson(liveness)
  const routes = new Map([
    [path, ready],
    [`${path}/live`, live],
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
