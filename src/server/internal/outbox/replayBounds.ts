/** The size of a replay: what its batches carry, compared with the limits of a socket or its session. */
import type { DurableBatch } from "./tail.ts"

/** How much a replay holds, or may hold. */
export interface Bounds {
  readonly events: number
  /** Payload in bytes of UTF-8, of a row with the texts by which it is filtered. */
  readonly bytes: number
}

/** Approximate bytes of an event in a frame beside its payload. */
export const frameEventBytes = 128

export const nothing: Bounds = { events: 0, bytes: 0 }

/** A size plus that of further batches. */
export const add = (size: Bounds, batches: ReadonlyArray<DurableBatch>): Bounds => {
  let { bytes, events } = size
  for (const batch of batches) {
    events += batch.events.length
    for (const { match = "", text } of batch.events) {
      bytes += Buffer.byteLength(text) + Buffer.byteLength(match)
    }
  }
  return { events, bytes }
}

export const exceeds = (size: Bounds, bounds: Bounds): boolean =>
  size.events > bounds.events || size.bytes > bounds.bytes

/** Approximate bytes of the frames. */
export const frameBytes = ({ bytes, events }: Bounds): number => bytes + events * frameEventBytes

/**
 * The remembered batches that fit into `room`, with the batch that crosses it; `undefined` where they
 * exceed the bounds.
 */
export const fitting = (all: ReadonlyArray<DurableBatch>, bounds: Bounds, room: number) => {
  let size = nothing
  let fits = 0
  while (fits < all.length && frameBytes(size) < room) size = add(size, [all[fits++]!])
  return exceeds(size, bounds)
    ? undefined
    : { replay: all.slice(0, fits), more: fits < all.length, bytes: size.bytes }
}
