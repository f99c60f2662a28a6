// #region otlp
import { Layer } from "effect"
import { FetchHttpClient } from "effect/http"
import { Otlp } from "effect/observability"

/** Spans, metrics and logs to a collector. Provide it beneath all other layers. */
export const Observability = (baseUrl = "http://127.0.0.1:4318") =>
  Otlp.layerJson({ baseUrl, resource: { serviceName: "orders" } }).pipe(
    Layer.provide(FetchHttpClient.layer)
  )
// #endregion
