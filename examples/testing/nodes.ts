// #region nodes
import { Effect, Stream } from "effect"
import { RealtimeServer } from "effect-realtime/server"
import { RealtimeTest } from "effect-realtime/testing"
import { TestClock } from "effect/testing"
import { inRoom } from "../presence/channels.ts"

/** Returns the names that Ada's page shows: at first, while Joan's node is isolated, and after that. */
export const isolated = Effect.gen(function* () {
  const { connect, nodes } = yield* RealtimeTest.RealtimeTest
  const ada = yield* connect({ node: 0 })
  const joan = yield* connect({ node: 1 })
  let shown: ReadonlyArray<string> = []
  yield* ada.presence(inRoom("lobby")).pipe(
    Stream.runForEach(({ members }) =>
      Effect.sync(() => (shown = members.map(({ state }) => state.name)))
    ),
    Effect.forkScoped
  )
  const later = Effect.map(TestClock.adjust("5 seconds"), () => shown.join())
  // It waits until the nodes know each other.
  yield* joan.present(inRoom("lobby"), { name: "Joan", away: false }).pipe(Effect.forkScoped)
  const before = yield* later
  yield* nodes[1]!.isolate(true)
  const during = yield* later
  yield* nodes[1]!.isolate(false)
  return [before, during, yield* later]
}).pipe(
  Effect.scoped,
  Effect.provide(
    RealtimeTest.layer({
      nodes: 2,
      channels: [inRoom],
      authorize: RealtimeServer.allowAll
    })
  )
)
// #endregion
