/**
 * The events of a frame as a listener receives them.
 *
 * @since 0.1.0
 */
import * as Result from "effect/Result"
import type { Any } from "../../Channel.ts"
import type { WireEvent } from "../../Frame.ts"
import { Gap, type RealtimeEvent } from "../../RealtimeEvent.ts"

/**
 * A payload that does not decode is a gap in its place. Inside a batch that gap carries the
 * position before the batch: a listener that resumes there may see events again, but misses none.
 */
export const decode = (
  { decode, name }: Any,
  events: ReadonlyArray<WireEvent>,
  cursor: string,
  before: string
): ReadonlyArray<RealtimeEvent<unknown>> => {
  let date: Date
  return events.map(({ at, data, id, tx }, index) => {
    const last = index === events.length - 1
    // Most of a batch has one time, and reading it takes longer than all the rest.
    if (at !== events[index - 1]?.at) date = new Date(at)
    try {
      const decoded = decode(data)
      if (Result.isSuccess(decoded)) {
        return {
          _tag: "Event",
          channel: name,
          id,
          at: date,
          payload: decoded.success,
          cursor: (last && cursor) || undefined,
          tx
        }
      }
    } catch {
      // A schema's own function that throws must not take the other listeners down.
    }
    return new Gap({ channel: name, reason: "invalid", cursor: last ? cursor : before })
  })
}

/** Makes one batch of held events, with the cursor `at` on the last one. */
export const together = (
  held: ReadonlyArray<RealtimeEvent<unknown>>,
  at: string,
  before: string
): ReadonlyArray<RealtimeEvent<unknown>> =>
  held.map((event, index) => {
    const last = index === held.length - 1
    return event._tag === "Gap"
      ? new Gap({
          channel: event.channel,
          reason: event.reason,
          cursor: last ? at : before,
          change: event.change
        })
      : { ...event, cursor: last ? at : undefined }
  })
