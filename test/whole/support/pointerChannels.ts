/** The channels of a board with many pointers, for its node and for its clients. */
import { Schema } from "effect"
import { Channel } from "effect-realtime"

export const Pointers = Channel.family(
  "pointers_",
  Schema.String,
  Schema.Struct({ user: Schema.String, x: Schema.Int }),
  { delivery: "volatile", publish: true, latestBy: "user" }
)
export const Kept = Channel.make("kept", Schema.Struct({ n: Schema.Int }), { delivery: "durable" })
const Board = Channel.presence("board", Schema.Struct({ user: Schema.String }))

export const channels = [Pointers, Kept, Board] as const
