/**
 * An Effect HTTP app with a realtime server, on a free port of this machine, over the source in
 * memory.
 */
import { NodeHttpServer } from "@effect/platform-node"
import { Context, Effect, Layer } from "effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import { createServer, type Server } from "node:http"
import * as MemorySource from "../../src/server/MemorySource.ts"
import * as Realtime from "../../src/server/Realtime.ts"
import * as RealtimeServer from "../../src/server/RealtimeServer.ts"
import type { AnonymousOptions } from "../../src/server/ServerOptions.ts"

/** The URLs of a test's server. */
export class Address extends Context.Service<
  Address,
  { readonly http: string; readonly ws: string }
>()("test/Address") {}

export const address = Layer.effect(
  Address,
  Effect.map(HttpServer.HttpServer, (server) => {
    const { port } = server.address as { readonly port: number }
    return { http: `http://127.0.0.1:${port}`, ws: `ws://127.0.0.1:${port}/realtime` }
  })
)

/** The whole app around a server, with its services for the test. */
export const layerAround = (
  door: Layer.Layer<
    RealtimeServer.RealtimeServer,
    Layer.Error<RealtimeServer.DoorLayer<never>>,
    HttpRouter.HttpRouter | Realtime.Realtime
  >,
  realtime?: Realtime.Options,
  server: () => Server = createServer
) =>
  Layer.merge(
    HttpRouter.serve(
      Layer.merge(door, HttpRouter.add("GET", "/", HttpServerResponse.text("hello"))),
      { disableListenLog: true, disableLogger: true }
    ),
    address
  ).pipe(
    Layer.provideMerge(NodeHttpServer.layer(server, { port: 0, host: "127.0.0.1" })),
    Layer.provideMerge(Realtime.layer(realtime)),
    Layer.provideMerge(MemorySource.layer)
  )

export const layer = (
  options: AnonymousOptions,
  realtime?: Realtime.Options,
  server?: () => Server
) => layerAround(RealtimeServer.layer(options), realtime, server)
