/** Waits for a source, or a reader, that may be down. */
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import type { SourceState } from "../../Protocol.ts"

/** Completes at once when the source is up, else when it is up again. */
export const waitUntilUp = (
  state: SubscriptionRef.SubscriptionRef<SourceState>
): Effect.Effect<void> =>
  SubscriptionRef.changes(state).pipe(
    Stream.filter((current) => current === "up"),
    Stream.runHead,
    Effect.asVoid
  )
