/**
 * Positions in a channel, as text: kept and given back by applications, and opaque to them.
 *
 * Every event and every gap carries one, and so does a state that was read by `Realtime.snapshot`. A
 * program that joins a state and the events that follow asks `includes` which of them the state has.
 * Hooks and `Collector` do that by themselves.
 *
 * @since 0.1.0
 */
import { readDurable, seenEvent } from "./internal/cursor.ts"
import type { Event } from "./RealtimeEvent.ts"

export { maxBytes } from "./internal/cursor.ts"

/**
 * Tells which events are already part of a state that was read at `cursor`. The result answers `true`
 * for an event to drop. It is `false` for every event of a live channel, and for all events where
 * `cursor` is not the cursor of a durable channel. Never throws; the cursor is read once.
 *
 * **Example** (Joining a state and the events behind it)
 *
 * ```ts
 * const { cursor, value } = await readOrders()
 * const isIncluded = Cursor.includes(cursor)
 * const orders = events.filter((event) => !isIncluded(event)).reduce(applyUpdate, value)
 * ```
 *
 * @category combinators
 * @since 0.1.0
 */
export const includes = (cursor: string): ((event: Pick<Event<unknown>, "id" | "tx">) => boolean) =>
  seenEvent(readDurable(cursor))
