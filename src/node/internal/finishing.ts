/** What `close` waits for, in bounded time: running publishes, and the batches of consumers. */
import * as Effect from "effect/Effect"
import type { Consumer } from "../Options.ts"

/** How long `close` waits for running publishes and for the batches of consumers, in milliseconds. */
export const finishMillis = 1000

/** How long `close` waits after that for rollbacks, in milliseconds. */
const rollbackMillis = 500

export const finishing = (
  publishing: ReadonlySet<Promise<void>>,
  consumers: ReadonlySet<Consumer>
): Promise<unknown> => {
  const consumed = Effect.promise(() =>
    Promise.all(Array.from(consumers, (consumer) => consumer.stop()))
  )
  const published = Effect.promise(() => Promise.all(publishing))
  return Effect.runPromise(
    Effect.all(
      [
        Effect.timeoutOption(published, finishMillis),
        // A silent database answers no rollback.
        Effect.timeoutOption(consumed, finishMillis + rollbackMillis)
      ],
      { concurrency: "unbounded" }
    )
  )
}
