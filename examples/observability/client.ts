import type { RealtimeClient } from "effect-realtime/client"
import { Room } from "../security/rooms.ts"
// #region client
import { Effect } from "effect"

/** Publishes from a client, under the trace of the span in which it runs. */
export const send = (client: RealtimeClient.RealtimeClient["Service"], text: string) =>
  Effect.gen(function* () {
    const { sampled, spanId, traceId } = yield* Effect.currentSpan
    const trace = `00-${traceId}-${spanId}-${sampled ? "01" : "00"}`
    yield* client.publish(Room("lobby"), { sender: "ada", text }, { trace })
  }).pipe(Effect.withSpan("send"))
// #endregion
