import { Effect, Layer } from "effect"
import { createRealtimeClient, RealtimeClient } from "effect-realtime/client"
import { onTestFinished } from "vitest"
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

/** A client without Effect of a fake server, until the test ends. */
export const plain = (server: FakeSocket.FakeServer, options?: Partial<RealtimeClient.Options>) => {
  const client = createRealtimeClient({
    url: "ws://host/realtime",
    webSocket: server.webSocket,
    ...options
  })
  onTestFinished(() => client.close())
  return client
}
