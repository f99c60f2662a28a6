import { Effect } from "effect"

/** Waits until a condition of what happens outside of Effect holds. */
export const until = (condition: () => boolean): Effect.Effect<void> =>
  Effect.asVoid(Effect.repeat(Effect.sleep(10), { until: () => condition() }))
