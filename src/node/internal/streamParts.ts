/**
 * A result in parts for code without Effect: an iterable as the Stream that `QueryResults.stream` reads.
 */
import type * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type { Channel, QueryResult } from "../../Channel.ts"
import * as QueryResults from "../../server/QueryResults.ts"
import type { NotDurable } from "../../server/Realtime.ts"

export const streamParts = <A>(
  channel: Channel<QueryResult<A>, boolean, string, "durable">,
  parts: AsyncIterable<A>,
  options: QueryResults.RunOptions<unknown> | undefined
): Effect.Effect<void, NotDurable, QueryResults.QueryResults> =>
  QueryResults.stream<A, unknown, never>(
    channel,
    Stream.fromAsyncIterable(parts, (error) => error),
    options
  )
