/** What the HTTP server of the gateway answers: its health and its metrics, without names or errors. */
import type * as Context from "effect/Context"
import * as PrometheusMetrics from "effect/observability/PrometheusMetrics"
import type { RequestListener } from "node:http"
import { health } from "../../internal/defaults.ts"
import { withoutSlash } from "../../server/internal/door/claimedPaths.ts"
import { type HealthAnswer, liveness, readiness } from "../../server/internal/door/health.ts"
import { invalid } from "../../server/internal/options.ts"

const text = "text/plain; charset=utf-8"

/** What the gateway itself answers. */
const own = { ready: health.path, live: `${health.path}/live`, metrics: "/metrics" } as const

/** Throws where the WebSocket would take the path of one of them, which is then not answered. */
export const checkSocketPath = (path: string): void => {
  const paths: ReadonlyArray<string> = Object.values(own)
  if (!paths.includes(withoutSlash(path))) return
  throw invalid(
    "path",
    path,
    `another one than ${paths.slice(0, -1).join(", ")} and ${paths.at(-1)}, which the gateway answers itself`
  )
}

interface Answer {
  readonly status: number
  readonly type: string
  readonly body: string
}

const inJson = ({ body, status }: HealthAnswer): Answer => ({
  status,
  type: "application/json",
  body: JSON.stringify(body)
})

/** The registry is that of the program, in which its parts count. */
const metricsOf = (context: Context.Context<never>) => (): Answer => ({
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
  const routes = new Map<string, () => Answer>([
    [own.ready, ready],
    [own.live, live],
    [own.metrics, metricsOf(context)]
  ])
  const answer = (method: string | undefined, url: string): Answer => {
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
