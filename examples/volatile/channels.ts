// #region channels
import * as Schema from "effect/Schema"
import * as Channel from "effect-realtime/Channel"

/** typing_${room}; the newest event of each user counts */
export const typingIn = Channel.family(
  "typing_",
  Schema.String,
  Schema.Struct({ user: Schema.String }),
  { delivery: "volatile", publish: true, latestBy: "user" }
)
// #endregion
