/**
 * Fails the start of a server whose channels can receive no events. Its clients would wait for ever.
 */
import * as Effect from "effect/Effect"
import type * as Channel from "../../../Channel.ts"
import { hubOf } from "../hub/ofRealtime.ts"
import { Realtime } from "../../Realtime.ts"
import { nameOf } from "../auth/rules.ts"
import type { NoOutbox, NoSource } from "../hub/errors.ts"

/** Fails for the first channel whose delivery this node lacks. */
export const requireSources = (
  channels: ReadonlyArray<Channel.Definition>
): Effect.Effect<void, NoOutbox | NoSource, Realtime> =>
  Effect.flatMap(Realtime, (realtime) =>
    Effect.forEach(
      channels,
      (definition) => {
        const missing = hubOf(realtime).deliveryOf(definition).missing(nameOf(definition))
        return missing === undefined ? Effect.void : Effect.fail(missing)
      },
      { discard: true }
    )
  )
