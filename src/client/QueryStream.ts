/**
 * A result that arrives in parts, as one value: for adapters to frameworks and for code without one.
 *
 * In: the events of a durable channel of results, from the oldest that the server still has. Out: a
 * `Collector` of what is there so far and of how the work ended. React's `useQueryStream` stands on it.
 *
 * @since 0.1.0
 */
import type { Channel, QueryResult } from "../Channel.ts"
import { oldest } from "../internal/cursorText.ts"
import * as Collector from "./Collector.ts"
import type { PlainClient } from "./PlainClient.ts"

/**
 * A result so far.
 *
 * @category models
 * @since 0.1.0
 */
export interface Progress<out A> {
  /** All parts so far, joined; the whole once the work has ended. `undefined` before the first part. */
  readonly value: A | undefined
  /** `waiting` until the work begins, then `running`, then how it ended. */
  readonly status: "waiting" | "running" | "completed" | "error" | "stopped"
  /** Why the work failed. */
  readonly error: unknown
}

const waiting: Progress<never> = { value: undefined, status: "waiting", error: undefined }

/** A text after a text, or a list after a list. */
const joined = <A>(before: A | undefined, chunk: A): A =>
  before === undefined
    ? chunk
    : Array.isArray(before)
      ? ([...before, ...(chunk as typeof before)] as A)
      : (((before as string) + (chunk as string)) as A)

/**
 * The result after one more event.
 *
 * @category folding
 * @since 0.1.0
 */
export const reduce = <A>(before: Progress<A>, result: QueryResult<A>): Progress<A> => {
  const { chunk, data = before.value, error, status } = result
  if (status === "stop") return before
  if (status !== "running") return { value: data, status, error }
  // A new work begins with a result of its own.
  if (chunk === undefined) return { ...waiting, status }
  // A chunk that the end has overtaken is in the whole.
  const isOver = before.status !== "waiting" && before.status !== "running"
  return isOver ? before : { value: joined(before.value, chunk), status, error: undefined }
}

/**
 * Collects the result of work from its beginning, also where it began before this page was there. It is
 * `stale` after a gap, until the work ends or begins anew. A live channel begins with a gap.
 *
 * **Example** (An adapter to any framework)
 *
 * ```ts
 * const answer = QueryStream.make(client, Answer(id))
 * const leave = answer.subscribe(() => show(answer.getSnapshot().value))
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <A>(
  client: Pick<PlainClient, "sync" | "last">,
  channel: Channel<QueryResult<A>>,
  options?: Collector.LatestOptions | (() => Collector.LatestOptions | undefined)
): Collector.Collector<Progress<A>> =>
  Collector.make<Channel<QueryResult<A>>, Progress<A>>(client, channel, () => ({
    ...(typeof options === "function" ? options() : options),
    initial: { _tag: "Snapshot", value: waiting, cursor: oldest },
    reduce: reduce as never
  }))
