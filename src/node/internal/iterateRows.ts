/**
 * The rows of a table, and the members of a channel, for code without Effect: an iterable of the collection.
 *
 * In: a Stream, and the services of the class once it has started. Out: each iteration follows the Stream by
 * itself, until it breaks, fails, or the server closes.
 */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { keeps } from "../../server/internal/hub/durable.ts"
import { invalid } from "../../server/internal/options.ts"
import * as Realtime from "../../server/Realtime.ts"

/** Throws `InvalidOption`, `InvalidChannelName`, `NotDurable`, and `NoOutbox` on a server without a reader. */
export const checkTable = (table: Realtime.RowsTable, readsOutbox: boolean): void => {
  const { _tag, fault, name }: Partial<Realtime.RowsTable> = Object(table)
  if (_tag !== "Channel" || table.table === undefined || name === undefined) {
    throw invalid("table", table, "a channel of Channel.table, and a route of it with `by`")
  }
  if (fault !== undefined) throw fault
  if (!keeps(table)) throw new Realtime.NotDurable({ channel: name })
  if (!readsOutbox) throw new Realtime.NoOutbox({ channel: name })
}

/** `start` resolves when the server has started. `closing` ends every iteration. */
export const iterate = <A, E, R>(
  stream: Stream.Stream<A, E, R>,
  start: () => Promise<Context.Context<R>>,
  closing: AbortSignal
): AsyncIterable<A> => {
  const closed = Effect.callback<void>((resume) => {
    const end = () => resume(Effect.void)
    if (closing.aborted) end()
    closing.addEventListener("abort", end)
    return Effect.sync(() => closing.removeEventListener("abort", end))
  })
  const started = Effect.tryPromise({ try: start, catch: (error) => error })
  return Stream.unwrap(
    Effect.map(started, (services) =>
      Stream.interruptWhen(Stream.provideContext(stream, services), closed)
    )
  ).pipe(Stream.toAsyncIterable)
}
