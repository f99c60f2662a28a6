/**
 * Keeps the fault of one listener of a live channel from the others, and from the source.
 *
 * In: a listener that may throw. Out: one that does not. It has missed something where it threw, so it receives
 * `lost` there, and goes on.
 */
import * as Effect from "effect/Effect"
import { Defects } from "./notices.ts"

/** `component`: whose line in the log it is. */
export const make = <Heard>(
  component: string,
  lost: Heard
): Effect.Effect<(hear: (heard: Heard) => void) => (heard: Heard) => void> =>
  Effect.map(Effect.context<never>(), (services) => {
    const runFork = Effect.runForkWith(services)
    const defects = new Defects()
    return (hear) => (heard) => {
      try {
        hear(heard)
      } catch (defect) {
        const line = defects.logged("A listener of a live channel", defect)
        runFork(Effect.annotateLogs(line, "component", component))
        try {
          hear(lost)
        } catch {
          // It throws at everything.
        }
      }
    }
  })
