/** The channels of the nodes of a cluster, for the nodes and for their clients. */
import { Schema } from "effect"
import { Channel } from "effect-realtime"

const Numbered = Schema.Struct({ n: Schema.Int })

export const Live = Channel.make("live", Numbered)
export const Kept = Channel.make("kept", Numbered, { delivery: "durable" })

/** A row of which each transaction changes both halves in the same way. */
export const Part = Schema.Struct({
  id: Schema.Int,
  pair: Schema.Int,
  status: Schema.String,
  version: Schema.Int
})
export type Part = typeof Part.Type
export const Parts = Channel.table("parts", Part, { key: "id", filter: "status" })

export const channels = [Live, Kept, Parts] as const
