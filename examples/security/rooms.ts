/** A channel of messages whose sender the server stamps. Page and server import it. */
// #region rooms
import * as Schema from "effect/Schema"
import * as Channel from "effect-realtime/Channel"

export const Message = Schema.Struct({ sender: Schema.String, text: Schema.String })

export const Room = Channel.family("room_", Schema.String, Message, { publish: true })
// #endregion
