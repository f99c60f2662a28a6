// #region health
import { Layer } from "effect"
import { PrometheusMetrics } from "effect/observability"
import { RealtimeServer } from "effect-realtime/server"

/** The routes `/health`, `/health/live` and `/metrics`. Serve `Health.pipe(Layer.provideMerge(door))`. */
export const Health = Layer.merge(RealtimeServer.layerHealth(), PrometheusMetrics.layerHttp())
// #endregion
