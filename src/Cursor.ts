/**
 * Positions in a channel, as text. An application keeps a cursor and gives it back, and does not look
 * inside.
 *
 * Every event and every gap has a cursor, and so has a state that `Realtime.snapshot` read. A program
 * that joins a state and the events after it asks `includes` which events the state has. Hooks and
 * `Collector` do that by themselves.
 *
 * @since 0.1.0
 */
import { readDurable, seenEvent } from "./internal/cursorText.ts"
import type { Event } from "./RealtimeEvent.ts"

export { maxBytes } from "./internal/cursorText.ts"

/**
 * Which events a state that was read at `cursor` already contains. The returned function gives `true` for
 * an event to drop. It gives `false` for every event of a live channel, and for all events when `cursor`
 * is not the cursor of a durable channel. Never throws. Reads the cursor once.
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
