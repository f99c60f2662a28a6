// #region effect
import { Effect, Stream } from "effect"
import { RealtimeClient } from "effect-realtime/client"
import { inRoom } from "./channels.ts"

export const program = Effect.gen(function* () {
  const client = yield* RealtimeClient.RealtimeClient
  const me = yield* client.present(inRoom("lobby"), { name: "Ada", away: false })
  yield* me.update({ name: "Ada", away: true })
  yield* client
    .presence(inRoom("lobby"))
    .pipe(Stream.runForEach(({ count, status }) => Effect.log(`${count} here, ${status}`)))
}).pipe(Effect.scoped)
// #endregion
