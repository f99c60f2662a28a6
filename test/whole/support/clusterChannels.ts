/** The channels of the nodes of a cluster, for the nodes and for their clients. */
import { Schema } from "effect"
import { Channel } from "effect-realtime"
import { Parts } from "./pairs.ts"

const Numbered = Schema.Struct({ n: Schema.Int })

export const Live = Channel.make("live", Numbered)
export const Kept = Channel.make("kept", Numbered, { delivery: "durable" })

export const channels = [Live, Kept, Parts] as const
