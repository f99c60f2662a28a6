import { Schema } from "effect"
import { Channel } from "effect-realtime"

export const Item = Channel.family("item_", Schema.String, Schema.Struct({ n: Schema.Int }))
