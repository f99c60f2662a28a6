// #region health
import { Effect, Layer } from "effect"
import { HttpRouter, HttpServerResponse } from "effect/http"
import { PrometheusMetrics } from "effect/observability"
import { RealtimeServer } from "effect-realtime/server"

const checks = HttpRouter.use((router) =>
  Effect.gen(function* () {
    const server = yield* RealtimeServer.RealtimeServer
    const ready = Effect.map(server.isReady, (yes) =>
      HttpServerResponse.text(yes ? "ready" : "not now", { status: yes ? 200 : 503 })
    )
    yield* router.add("GET", "/ready", ready)
    yield* router.add("GET", "/live", HttpServerResponse.text("live")) // checks nothing
  })
)

/** The routes `/ready`, `/live` and `/metrics`. Serve `Health.pipe(Layer.provideMerge(door))`. */
export const Health = Layer.merge(checks, PrometheusMetrics.layerHttp())
// #endregion
