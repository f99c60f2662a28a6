// #region client
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { RealtimeClient } from "effect-realtime/client"
import { Orders } from "./orders.ts"

export const follow = (url: string) =>
  RealtimeClient.RealtimeClient.use((client) =>
    Stream.runForEach(client.subscribe(Orders), ({ data, operation }) =>
      Effect.log(`${operation} order ${data.id}: ${data.status}`)
    )
  ).pipe(Effect.provide(RealtimeClient.layer({ url })), Effect.runFork)
// #endregion

follow(process.env["REALTIME_URL"] ?? "ws://127.0.0.1:3000/realtime")
