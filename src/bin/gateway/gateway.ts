/** The gateway: one HTTP server with a WebSocket door, its health and its metrics, and no code of an app. */
import { PgClient } from "@effect/sql-pg"
import * as Effect from "effect/Effect"
import * as PrometheusMetrics from "effect/observability/PrometheusMetrics"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import { createServer, type RequestListener } from "node:http"
import type { AddressInfo } from "node:net"
import { RealtimeServer } from "../../node/RealtimeServer.ts"
import { secured } from "../../server/internal/link/pgLink.ts"
import { authorizer, type Client } from "./access.ts"
import { channelOf } from "./channels.ts"
import * as Config from "./config.ts"
import { authenticator } from "./identity.ts"
import { install, tablesOf } from "./tables.ts"

/** Where the gateway is when nothing says otherwise. */
export const usual = { host: "127.0.0.1", port: 8080 } as const

const missing = (reason: string) => new Config.InvalidGateway({ where: "serve", reason })

/** Answers `/health`, `/live` and `/metrics`; no body has a name of a channel or of a client. */
const answers =
  (isReady: () => boolean): RequestListener =>
  (request, response) => {
    const answer = (status: number, type: string, body: string) => {
      response.writeHead(status, { "content-type": type, "cache-control": "no-store" }).end(body)
    }
    const path = request.url?.split("?")[0]
    if (request.method !== "GET" && request.method !== "HEAD") {
      answer(405, "text/plain", "Only GET is allowed.\n")
    } else if (path === "/health") {
      const ready = isReady()
      const body = JSON.stringify({ status: ready ? "ready" : "not ready" })
      answer(ready ? 200 : 503, "application/json", `${body}\n`)
    } else if (path === "/live") {
      answer(200, "application/json", `{"status":"live"}\n`)
    } else if (path === "/metrics") {
      const text = Effect.runSync(PrometheusMetrics.format())
      answer(200, "text/plain; version=0.0.4; charset=utf-8", text)
    } else answer(404, "text/plain", "Not found.\n")
  }
