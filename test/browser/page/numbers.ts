import { Schema } from "effect"
import { Channel } from "effect-realtime"

/** What the page shows and the test publishes. */
export const Numbers = Channel.make("numbers", Schema.Struct({ n: Schema.Int }))
