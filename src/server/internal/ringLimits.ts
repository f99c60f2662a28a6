/** Validates the bounds of a memory of recent batches and fills in their defaults. */
import type * as Duration from "effect/Duration"
import { count, millis } from "./options.ts"
import type { RingLimits } from "./ring.ts"

/** As `Realtime.layer` and `OutboxReader.layer` take them. */
export interface GivenRing {
  readonly maxMemoryEvents?: number | undefined
  readonly maxMemoryAge?: Duration.Input | undefined
  readonly maxMemoryBytes?: number | undefined
}

/** The bounds per channel, in time, and over all channels. Throws `InvalidOption`. */
export const ringLimits = (
  options: GivenRing,
  defaults: { readonly [Name in keyof GivenRing]-?: NonNullable<GivenRing[Name]> }
): RingLimits => ({
  events: count("maxMemoryEvents", options.maxMemoryEvents ?? defaults.maxMemoryEvents, {
    least: 0
  }),
  maxAge: millis("maxMemoryAge", options.maxMemoryAge ?? defaults.maxMemoryAge, {
    least: 0,
    endless: true
  }),
  bytes: count("maxMemoryBytes", options.maxMemoryBytes ?? defaults.maxMemoryBytes, { least: 0 })
})
