import { Schema } from "effect"
import { Channel } from "effect-realtime"

/** The channel that the page shows and the test publishes to. */
export const Numbers = Channel.make("numbers", Schema.Struct({ n: Schema.Int }))
