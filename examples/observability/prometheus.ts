// #region prometheus
import { Layer } from "effect"
import { PrometheusMetrics } from "effect/observability"
import { RealtimeServer } from "effect-realtime/server"
import { Notices, OrderUpdates } from "../channels.ts"

const Door = RealtimeServer.layer({
  channels: [Notices, OrderUpdates],
  authorize: RealtimeServer.allowAll
})

/** The door, and `GET /metrics` beside it. Serve it with `HttpRouter.serve`. */
export const Routes = Layer.merge(Door, PrometheusMetrics.layerHttp())
// #endregion
