// #region channels
import * as Schema from "effect/Schema"
import * as Channel from "effect-realtime/Channel"

/** in_room_${room}; one member for each person, whatever the number of tabs */
export const inRoom = Channel.presence(
  "in_room_",
  Schema.String,
  Schema.Struct({ name: Schema.String, away: Schema.Boolean })
)
// #endregion
