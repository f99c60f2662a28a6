import { Schema } from "effect"
import { Channel } from "effect-realtime"

/** The channel that the page shows, and that the test and the page publish to. */
export const Numbers = Channel.make("numbers", Schema.Struct({ n: Schema.Int }), {
  publish: true
})
