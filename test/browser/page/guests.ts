import { Schema } from "effect"
import { Channel } from "effect-realtime"

/** The guests of a page that shows them. */
export const guestsIn = Channel.presence(
  "guests_",
  Schema.String,
  Schema.Struct({ name: Schema.String, typing: Schema.Boolean })
)
