/** What a server that closes waits for: its running publishes, and the batches of its consumers. */
import * as Effect from "effect/Effect"
import type { Consumer } from "../Options.ts"

/** How long `close` waits for running publishes and for the batches of consumers, in milliseconds. */
export const finishMillis = 1000

/** How long `close` waits after that for rollbacks, in milliseconds. */
const rollbackMillis = 500

/** Stops the consumers, and waits for them and for the publishes within the limits. */
export const unfinished = (
  publishing: Iterable<Promise<void>>,
  consumers: Iterable<Consumer>
): Effect.Effect<void> => {
  const consumed = Effect.promise(() =>
    Promise.all(Array.from(consumers, (consumer) => consumer.stop()))
  )
  return Effect.all(
    [
      Effect.timeoutOption(
        Effect.promise(() => Promise.all(publishing)),
        finishMillis
      ),
      // A silent database answers no rollback.
      Effect.timeoutOption(consumed, finishMillis + rollbackMillis)
    ],
    { concurrency: "unbounded", discard: true }
  )
}
