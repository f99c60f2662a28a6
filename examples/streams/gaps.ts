// #region gaps
import { Effect, Stream } from "effect"
import { Realtime } from "effect-realtime/server"
import { OrderUpdates } from "../channels.ts"

export const follow = <E, R>(reload: Effect.Effect<void, E, R>) =>
  Realtime.events(OrderUpdates).pipe(
    Stream.runForEach((event) =>
      event._tag === "Gap" ? reload : Effect.log(event.payload.operation, event.payload.data)
    )
  )
// #endregion
