/** The presence channel of the nodes of a test, for the nodes and for their clients. */
import { Schema } from "effect"
import { Channel } from "effect-realtime"

export const Room = Channel.presence("room", Schema.Struct({ name: Schema.String, n: Schema.Int }))
