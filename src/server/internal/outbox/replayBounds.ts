/**
 * How much of a replay is taken: what batches carry, beside what a socket or its session may get.
 */
import type { DurableBatch } from "./tail.ts"

export interface Bounds {
  readonly events: number
  /** Payload in bytes of UTF-8. */
  readonly bytes: number
}

/** About what an event has in a frame beside its payload, in bytes. */
export const frameEventBytes = 128

export const nothing: Bounds = { events: 0, bytes: 0 }

/** A size with the batches that follow it. */
export const add = (size: Bounds, batches: ReadonlyArray<DurableBatch>): Bounds => {
  let { bytes, events } = size
  for (const batch of batches) {
    events += batch.events.length
    for (const { text } of batch.events) bytes += Buffer.byteLength(text)
  }
  return { events, bytes }
}

export const exceeds = (size: Bounds, bounds: Bounds): boolean =>
  size.events > bounds.events || size.bytes > bounds.bytes

/** About how many bytes of frames it makes. */
export const frameBytes = ({ bytes, events }: Bounds): number => bytes + events * frameEventBytes

/**
 * As much of what a node remembers as there is room for, and the batch that crosses it; `undefined` where
 * that exceeds the bounds.
 */
export const fitting = (all: ReadonlyArray<DurableBatch>, bounds: Bounds, room: number) => {
  let size = nothing
  let fits = 0
  while (fits < all.length && frameBytes(size) < room) size = add(size, [all[fits++]!])
  return exceeds(size, bounds)
    ? undefined
    : { replay: all.slice(0, fits), more: fits < all.length, bytes: size.bytes }
}
