import { Effect, Layer } from "effect"
import { RealtimeClient } from "effect-realtime/client"
import type * as FakeSocket from "./FakeSocket.ts"

export type Client = RealtimeClient.RealtimeClient["Service"]

/** A client of a fake server, for the scope of the test. */
export const make = (server: FakeSocket.FakeServer, options?: Partial<RealtimeClient.Options>) =>
  Effect.flatMap(
    Layer.build(
      RealtimeClient.layer({
        url: "ws://host/realtime",
        webSocket: server.webSocket,
        signals: () => () => {},
        ...options
      })
    ),
    (context) => Effect.provide(RealtimeClient.RealtimeClient, context)
  )
